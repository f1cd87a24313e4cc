"""Which keys somebody can use, and which outside party can use what."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.answers.accessible_keys import access
from reports.answers.vendors import vendors
from reports.mart.errors import QueryError
from tests.reports.answers.sample_organization import DATA, LOCAL, NAMED, SHARED, SHOP, UNREAD, VENDOR, who


def keys(path: Path, name: str) -> dict[str, set[tuple[str, str]]]:
    """Key to answer and way of each of its ways."""
    found = access(path, name)
    assert len({one.key_arn for one in found.keys}) == len(found.keys)
    return {one.key_arn: {(way["answer"], way["via"]) for way in one.ways} for one in found.keys}


def test_a_role_across_accounts(mart_path: Path) -> None:
    """Its own policies are looked at: batch has the shared key twice and the local one, app none that it is named for."""
    assert keys(mart_path, "batch") == {
        SHARED: {("yes", "Shop"), ("yes", "ab" * 32)},
        LOCAL: {("yes", "Enable IAM policies")},
    }
    assert keys(mart_path, who(SHOP, "role/app")) == {}
    assert keys(mart_path, who(SHOP, "role/bounded")) == {}


def test_a_role_when_iam_was_not_collected(without_iam: Path) -> None:
    """What its account or its name has depends on IAM, and that is said."""
    found = access(without_iam, who(SHOP, "role/batch"))
    assert {way["answer"] for one in found.keys for way in one.ways} == {"depends"}
    assert {one.key_arn for one in found.keys} == {SHARED, LOCAL}
    assert "IAM was not collected" in found.iam
    assert not found.known


def test_an_account(mart_path: Path) -> None:
    """By name or id, with the keys of other accounts, and what they protect."""
    found = access(mart_path, "shop")
    assert found.plain() == access(mart_path, SHOP).plain()
    assert {one.key_arn for one in found.keys} >= {SHARED, LOCAL}
    local = next(one for one in found.keys if one.key_arn == LOCAL)
    assert (local.protects, local.protected) == (2, ["orders", "own"])
    assert {one.key_arn for one in access(mart_path, DATA).keys} >= {SHARED, NAMED}
    assert UNREAD not in {one.key_arn for one in found.keys}
    assert found.known


def test_an_account_whose_iam_was_not_collected(without_iam: Path) -> None:
    """Whether anyone of the account can is a matter of IAM, and not known."""
    found = access(without_iam, SHOP)
    assert {way["answer"] for one in found.keys for way in one.ways if way["access"] == "owner_delegated"} == {
        "depends"
    }
    assert not found.known


def test_an_outside_account(mart_path: Path) -> None:
    """A vendor's account is known by its grants, with the words that its own IAM decides."""
    found = access(mart_path, VENDOR)
    assert [one.key_arn for one in found.keys] == [LOCAL]
    assert "is not ours" in found.iam


def test_nobody_of_that_name(mart_path: Path) -> None:
    """One sentence, exit code 2."""
    with pytest.raises(QueryError, match="there is no principal or account 'Shopp'") as raised:
        access(mart_path, "Shopp")
    assert raised.value.exit_code == 2


def test_vendors(mart_path: Path) -> None:
    """The one party, its key, way, and what the key protects; the access ends with the grant."""
    found = vendors(mart_path)
    (row,) = found.plain()["vendors"]
    assert (row["key_arn"], row["paths"], row["protects"]) == (LOCAL, ["cd" * 32], 2)
    assert f"    through {'cd' * 32}: without it, the access ends" in found.lines()
