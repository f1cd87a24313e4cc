"""Tests of profile files: shipped, a user's own, and errors with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.mart.connection import connect
from reports.rules.testing.builders import root_statement
from reports.vendors.assignments import load_assignments
from reports.vendors.profile import VendorProfileError, load_profiles, read_profile
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of

OWN = """\
id: acme-backup
vendor: Acme
title: Acme Backup
severity: high
about: Acme copies what is encrypted.
parameters:
  vendor_account: {about: The account of Acme., default: "222233334444"}
keys:
  found_by: vendor_account
needs:
  - title: decryption
    account: "{vendor_account}"
    actions: ["kms:Decrypt", "kms:DescribeKey"]
    statement: {Sid: Acme, Effect: Allow, Principal: {AWS: "{vendor_account}"}, Action: "kms:Decrypt", Resource: "*"}
scenarios:
  unshared: {effect: No backups., fix: Share it.}
  disabled: {effect: No backups., fix: Enable it., days: 3}
  pending_deletion: {effect: No backups., fix: Cancel it.}
  deleted: {effect: No backups., fix: None.}
  unusable: {effect: No backups., fix: Repair it.}
"""


def test_three_vendors_are_shipped() -> None:
    """The shipped profiles load, which validates needs, statements and scenarios."""
    assert set(load_profiles()) == {"checkmarx-one", "cerby", "plerion"}


def test_a_user_profile(world: LedgerBuilder, tmp_path: Path) -> None:
    """A profile in a directory of the settings is evaluated like a shipped one; profiles without keys are not_configured."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "acme.yaml").write_text(OWN)
    use = {"Sid": "acme", "Effect": "Allow", "Principal": {"AWS": "222233334444"}, "Resource": "*"}
    both = {**use, "Action": ["kms:Decrypt", "kms:DescribeKey"]}
    for number, statement in enumerate(({**use, "Action": "kms:Decrypt"}, both)):
        policy = [root_statement(SHOP), statement]
        world.key(SHOP, IRELAND, f"11111111-0000-4000-8000-00000000000{number}", policy=policy)
    world.crawl()
    mart = tmp_path / "mart.duckdb"
    build_mart(settings_of(database=world.url, report={"mart": mart}, vendors={"directories": [tmp_path / "profiles"]}))
    with connect(mart) as connection:
        rows = connection.execute(
            "SELECT result, severity FROM vendor_checks WHERE profile = 'acme-backup' AND subject_type = 'key' ORDER BY key_arn"
        ).fetchall()
        unused = connection.execute(
            "SELECT profile, subject_type, result FROM vendor_checks WHERE profile <> 'acme-backup'"
        )
        assert sorted(unused.fetchall()) == [
            (profile, "profile", "not_configured") for profile in ("cerby", "checkmarx-one", "plerion")
        ]
    # The settings do not name the profile, so the severity is medium at most.
    assert rows == [("blocked_by_policy", "medium"), ("accessible", "info")]


@pytest.mark.parametrize(
    ("invalid", "valid", "line", "expected"),
    [
        ("severity: grave", "severity: high", 4, "'critical', 'high'"),
        ("vendorr: Acme", "vendor: Acme", 2, "an unknown key"),
        ('"kms:Decript"', '"kms:Decrypt", "kms:DescribeKey"', 13, "a valid KMS action"),
        ('"{account}"', '"{vendor_account}"\n    actions', 12, "a placeholder"),
        ("found_by: luck", "found_by: vendor_account", 9, "'vendor_account'"),
        ("days: soon", "days: 3", 17, "a whole number"),
    ],
)
def test_an_error_has_file_and_line(tmp_path: Path, invalid: str, valid: str, line: int, expected: str) -> None:
    """The message has file, line, actual and expected value."""
    file = tmp_path / "acme.yaml"
    replacement = f"{invalid}\n    actions" if "actions" in valid else invalid
    file.write_text(OWN.replace(valid, replacement, 1))
    with pytest.raises(VendorProfileError) as error:
        read_profile(file)
    messages = str(error.value).splitlines()
    assert any(message.startswith(f"{file}:{line}:") and expected in message for message in messages), str(error.value)


@pytest.mark.parametrize(
    ("vendors", "expected"),
    [
        ({"profiles": {"acme": {}}}, "vendors.profiles.acme names the profile acme, which does not exist"),
        ({"profiles": {"cerby": {"parameters": {"rolle": "x"}}}}, "sets rolle, which is not a parameter of cerby"),
        ({"profiles": {"plerion": {"parameters": {"mode": "SOME"}}}}, "expected ALL_KEYS or SELECTED_KEYS"),
        ({"directories": [Path("/nowhere")]}, "vendors.directories names /nowhere"),
    ],
)
def test_invalid_profile_settings(vendors: dict[str, Any], expected: str) -> None:
    """Settings are validated against the profiles."""
    with pytest.raises(VendorProfileError, match=expected):
        load_assignments(settings_of(database="sqlite:///x.db", vendors=vendors))
