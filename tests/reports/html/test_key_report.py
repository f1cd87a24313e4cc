"""The passport of a key: state, access, dependents, policy, history and findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.settings import Settings
from models.tables import Alias, Key
from reports.html.registry import find, write
from reports.mart.errors import QueryError
from reports.pipeline import refresh
from tests.reports.html.conftest import INVOICES, Make
from tests.reports.html.page import Node, broken_links, read
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.sample_ledger import DATA, IRELAND, SHOP

LAKE = f"arn:aws:kms:{IRELAND}:{DATA}:key/00000000-0000-4000-8000-000000000005"


def passport(key: str, settings: Settings, directory: Path, as_of: str | None = None) -> Node:
    path, *_ = write([find("key", key)], settings.report.mart, directory, settings, subject=key, as_of=as_of)
    return read(path.read_text(encoding="utf-8"))


def test_life_and_dependents(settings: Settings, tmp_path: Path) -> None:
    """The passport has the state, what to do, the dependents in all accounts, and each change with values before and after."""
    page = passport("alias/invoices", settings, tmp_path)
    assert page.one("h1").text == "Key alias/invoices"
    assert "Pending deletion will be deleted on 2026-12-21" in page.one("section", id="summary").text
    assert (
        f"aws kms cancel-key-deletion --region {IRELAND} --key-id {INVOICES}"
        in page.one("section", id="attention").text
    )
    assert sorted(row["resource_name"] for row in page.data("references")) == [
        *("invoicing", "invoicing"), "payments/shared", "shop-invoices",
    ]  # fmt: skip
    history = page.one("section", id="history")
    assert "was scheduled for deletion on 2026-12-21" in history.text
    assert ["Enabled", "PendingDeletion"] in [
        [change.text for change in item.all("span")] for item in history.all("li") if item.text.startswith("state ")
    ]
    assert "alias/invoices pointed at this key since" in history.text
    assert {row["status"] for row in page.data("key_findings")} >= {"fail"}
    assert [path.name for path in tmp_path.iterdir() if "run" not in path.name] == [
        f"kmsledger-key-{SHOP}-{IRELAND}-00000000-0000-4000-8000-000000000002.html"
    ]


def test_access_and_policy_history(settings: Settings, tmp_path: Path) -> None:
    """Access from outside comes first, with its statement; the statement that opened the policy is in the history as added."""
    page = passport(LAKE, settings, tmp_path)
    first, *_ = page.data("key_access")
    assert (first["access"], first["through"], first["party"]) == (
        "vendor",
        "statement Vendor",
        "Vendor <b>Inc</b> (754581900792)",
    )
    (added,) = page.one("section", id="history").all("span", class_="added")
    assert added.text.startswith("statement Vendor: Allow 754581900792: kms:Decrypt, kms:Encrypt")
    assert "Vendor" in page.one("section", id="policy").text
    assert broken_links(page) == set()


def test_an_unread_key_is_unknown(settings: Settings, tmp_path: Path) -> None:
    """Who can use a key whose policy and grants were denied is unknown, with the reason, and the gaps are listed."""
    page = passport(f"arn:aws:kms:{IRELAND}:{DATA}:key/00000000-0000-4000-8000-000000000011", settings, tmp_path)
    assert {row["access"] for row in page.data("key_access")} == {"unknown"}
    assert len(page.data("gaps")) == 4
    assert "2 access paths unknown" in page.one("section", id="summary").text


@pytest.mark.deep
def test_as_of_an_earlier_run(settings: Settings, tmp_path: Path) -> None:
    """As of an earlier run, state, policy and history end with that run."""
    page = passport(INVOICES, settings, tmp_path, as_of="1")
    assert "Pending deletion" not in page.one("section", id="summary").text
    assert [head.text.partition(" UTC ")[2] for head in page.one("section", id="history").all("h3")] == ["run 1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alias/invoice", "there is no key or alias 'alias/invoice' in the ledger: did you mean alias/invoices"),
        ("00000000-0000-4000-8000-000000000008", "is the ID of 2 keys: specify the ARN"),
    ],
)
def test_unknown_and_ambiguous_keys(settings: Settings, tmp_path: Path, text: str, message: str) -> None:
    """An unknown key is an error with close names, an ID of several keys an error with their ARNs."""
    with pytest.raises(QueryError, match=message):
        passport(text, settings, tmp_path)


@pytest.mark.deep
def test_a_deleted_key(make_settings: Make, tmp_path: Path) -> None:
    """A key that no longer exists has its history, with its last alias as its name; nothing is said about its access."""
    settings = make_settings()
    world = LedgerBuilder(settings.database)
    world.account(SHOP, "Shop", IRELAND)
    arn = world.key(SHOP, IRELAND, "00000000-0000-4000-8000-000000000001")
    world.alias("alias/gone", arn)
    world.crawl()
    world.remove(Alias, f"arn:aws:kms:{IRELAND}:{SHOP}:alias/gone")
    world.remove(Key, arn)
    world.crawl()
    refresh(settings)
    page = passport(arn, settings, tmp_path)
    assert page.one("h1").text == "Key alias/gone"
    assert "This key no longer exists." in page.one("section", id="summary").text
    assert "no longer exists" in page.one("section", id="history").text
    assert not page.data("key_access")
    with pytest.raises(QueryError, match="alias 'alias/gone' no longer exists: specify the ARN"):
        passport("alias/gone", settings, tmp_path)
