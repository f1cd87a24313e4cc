"""The keys that a principal, an account or an external party can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.answers.accessible_keys import AccessibleKeys, accessible_keys
from reports.answers.denials import Denials, denials
from reports.answers.vendors import Vendors, vendors
from reports.mart.errors import QueryError
from tests.reports.answers.sample_organization import (
    DATA,
    LOCAL,
    NAMED,
    SHARED,
    SHOP,
    UNREAD,
    VENDOR,
    who,
)


def keys(path: Path, name: str) -> dict[str, set[tuple[str, str]]]:
    """Key to the answer and source of each of its access paths."""
    result = accessible_keys(path, name)
    assert len({key["key_arn"] for key in result.keys}) == len(result.keys)
    return {
        key["key_arn"]: {(each["answer"], each["source_id"]) for each in key["access_paths"]} for key in result.keys
    }


def test_a_role_across_accounts(mart_path: Path) -> None:
    """The role's own policies are evaluated: batch can use the shared key by two paths and the local key, app no key."""
    assert keys(mart_path, "batch") == {
        SHARED: {("yes", "Shop"), ("yes", "ab" * 32)},
        LOCAL: {("yes", "Enable IAM policies")},
    }
    assert keys(mart_path, who(SHOP, "role/app")) == {}
    assert keys(mart_path, who(SHOP, "role/bounded")) == {}


@pytest.mark.parametrize("answer", ["what-can", "vendors", "denials"])
def test_the_limits_of_an_answer_are_stated(mart_path: Path, answer: str) -> None:
    """Text and JSON state that service control, resource control and session policies are not evaluated."""
    result: AccessibleKeys | Vendors | Denials
    if answer == "what-can":
        result = accessible_keys(mart_path, "batch")
    else:
        result = vendors(mart_path) if answer == "vendors" else denials(mart_path)
    (note,) = result.to_dict()["notes"]
    assert all(name in note.lower() for name in ("service control", "resource control", "session policies"))
    assert f"Note: {note}" in result.to_text().splitlines()


def test_a_role_when_iam_was_not_collected(without_iam: Path) -> None:
    """Access is conditional on IAM, and the result gives the reason."""
    result = accessible_keys(without_iam, who(SHOP, "role/batch"))
    assert {path["answer"] for key in result.keys for path in key["access_paths"]} == {"conditional"}
    assert {key["key_arn"] for key in result.keys} == {SHARED, LOCAL}
    assert "IAM was not collected" in result.unknown
    assert not result.known


def test_an_account(mart_path: Path) -> None:
    """An account by name or ID: its keys, those of other accounts, and their dependents."""
    result = accessible_keys(mart_path, "shop")
    assert result.to_dict() == accessible_keys(mart_path, SHOP).to_dict()
    assert {key["key_arn"] for key in result.keys} >= {SHARED, LOCAL}
    local = next(key for key in result.keys if key["key_arn"] == LOCAL)
    assert (local["dependent_count"], local["dependents"]) == (2, ["orders", "own"])
    assert {key["key_arn"] for key in accessible_keys(mart_path, DATA).keys} >= {SHARED, NAMED}
    assert UNREAD not in {key["key_arn"] for key in result.keys}
    assert result.known


def test_an_account_whose_iam_was_not_collected(without_iam: Path) -> None:
    """Access of the account's principals is conditional on IAM."""
    result = accessible_keys(without_iam, SHOP)
    assert {
        path["answer"] for key in result.keys for path in key["access_paths"] if path["access"] == "owner_delegated"
    } == {"conditional"}
    assert not result.known


def test_an_external_account(mart_path: Path) -> None:
    """A vendor's account has access by its grants; the result states that its own IAM decides."""
    result = accessible_keys(mart_path, VENDOR)
    assert [key["key_arn"] for key in result.keys] == [LOCAL]
    assert "is outside the organization" in result.unknown


def test_a_key_that_anyone_can_use_counts_if_the_iam_of_the_account_allows_it(without_denials: Path) -> None:
    """A public key of another account counts for the principals whose own policies allow it; without IAM the text says so."""
    assert accessible_keys(without_denials, who(SHOP, "role/app")).public_keys == 0
    allowed = accessible_keys(without_denials, who(SHOP, "role/keys-only"))
    assert allowed.public_keys == 1
    assert "Keys that anyone can use: 1;" in allowed.to_text()
    assert "Keys that anyone can use, if its IAM allows: 1;" in accessible_keys(without_denials, SHOP).to_text()


def test_an_unknown_principal(mart_path: Path) -> None:
    """The error is one sentence with exit code 2."""
    with pytest.raises(QueryError, match="there is no principal or account 'Shopp'") as raised:
        accessible_keys(mart_path, "Shopp")
    assert raised.value.exit_code == 2


def test_vendors(mart_path: Path) -> None:
    """The only external party with its key, access path and dependents; the access ends with the grant."""
    result = vendors(mart_path)
    (row,) = result.to_dict()["vendors"]
    assert (row["key_arn"], row["paths"], row["dependent_count"]) == (LOCAL, ["cd" * 32], 2)
    assert f"    through {'cd' * 32}: without it, access ends" in result.to_text().splitlines()
