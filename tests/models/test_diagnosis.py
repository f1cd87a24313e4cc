"""The report of `kmsledger doctor`: exit codes, text and JSON."""

from __future__ import annotations

import json

from models.diagnosis import Check, Diagnosis, Status, from_error, named, ok, problem, unknown
from models.errors import UserError


def test_the_worst_result_decides_the_exit_code() -> None:
    """0 without problems, 3 with some, 4 if no run can succeed, 2 for invalid settings."""
    diagnosis = Diagnosis([ok("database", "works")])
    assert diagnosis.exit_code == 0
    diagnosis.checks.append(problem("region", "unknown", "correct it"))
    assert diagnosis.exit_code == 3
    diagnosis.checks.append(problem("credentials", "none", "set some", fatal=True))
    assert diagnosis.exit_code == 4
    diagnosis.add_invalid_settings([problem("settings", "wrong", "write a number")])
    assert diagnosis.exit_code == 2


def test_what_could_not_be_checked_is_neither_fine_nor_a_problem() -> None:
    """An unknown result has its own status and number, and keeps the exit code from being 0."""
    diagnosis = Diagnosis([ok("database", "works"), unknown("mail", "it could not be checked: denied", "allow it")])
    assert (diagnosis.exit_code, diagnosis.problems) == (3, [])
    assert diagnosis.to_text().splitlines()[1:] == [
        "unknown  mail      it could not be checked: denied",
        "                   fix: allow it",
        "1 check could not be made",
    ]
    document = json.loads(diagnosis.to_json())
    assert (document["problems"], document["unknown"]) == (0, 1)
    diagnosis.checks.append(problem("region", "unknown", "correct it"))
    assert diagnosis.to_text().endswith("\n1 problem, 1 check could not be made")


def test_texts_from_aws_cannot_move_the_cursor() -> None:
    """Control characters are escaped in the table and in JSON, which has the same content."""
    statement = {"Effect": "Allow", "Action": ["kms:ListKeys"]}
    check = Check("role", Status.PROBLEM, "it says \x1b[2J\u202e", "add it", statement, ("111122223333",))
    diagnosis = Diagnosis([ok("clock", "0 s off"), check])
    text = diagnosis.to_text()
    assert text.startswith("ok       clock  0 s off\nproblem  role   it says \\x1b[2J\\u202e\n")
    assert "fix: add it" in text
    assert '"kms:ListKeys"' in text
    assert text.endswith("\n1 problem")
    written = diagnosis.to_json()
    assert "\x1b" not in written
    assert "\u202e" not in written
    document = json.loads(written)
    assert (document["exit_code"], document["problems"]) == (3, 1)
    assert document["checks"][1]["statement"] == statement


def test_an_error_is_split_into_cause_and_fix() -> None:
    """The sentences of errors name the fix after the last colon."""
    check = from_error("mail", UserError("The mail server mx:25 refuses the connection: check mail.port"))
    assert (check.message, check.fix) == ("The mail server mx:25 refuses the connection", "check mail.port")
    assert from_error("mail", UserError("It does not work")).fix == "correct what the message names"


def test_long_lists_are_cut() -> None:
    """Ten names are listed, and the number of the others."""
    assert named(map(str, range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
