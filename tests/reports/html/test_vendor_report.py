"""The report about one vendor: its keys, how it uses them, deviations, and what removal ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.settings import Settings
from reports.html.registry import find, write
from reports.mart.errors import QueryError
from tests.reports.html.page import Node, broken_links, read
from tests.reports.sample_ledger import DATA, IRELAND, VENDOR
from tests.reports.situation_organization import CHECKMARX, SHOP, situation_settings

LAKE = f"arn:aws:kms:{IRELAND}:{DATA}:key/00000000-0000-4000-8000-000000000005"


def report_about(vendor: str, settings: Settings, directory: Path) -> Node:
    path, _ = write([find("vendor", vendor)], settings.report.mart, directory, settings, subject=vendor)
    return read(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(situation_mart: Path, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The report about a vendor with a profile; most of its keys do not meet the requirements."""
    return report_about("checkmarx", situation_settings(situation_mart.parent), tmp_path_factory.mktemp("vendor"))


def test_the_keys_of_the_vendor(page: Node) -> None:
    """Each key that the vendor can use or needs is listed with result, state, operations and paths, problems first."""
    rows = {row["name"]: row for row in page.data("vendor_keys")}
    assert {name: (row["result"], row["state"]) for name, row in rows.items()} == {
        "alias/going": ("broken", "PendingDeletion"),
        "alias/off": ("broken", "Disabled"),
        "alias/blocked": ("blocked_by_policy", "Enabled"),
        "alias/wide": ("over_shared", "Enabled"),
    }
    assert [row["dependents"] for row in page.data("vendor_keys")] == [3, 1, 0, 0]
    assert (rows["alias/blocked"]["operations"], rows["alias/blocked"]["through"]) == ("none", "no path")
    assert rows["alias/wide"]["through"] == "all"
    (path,) = rows["alias/wide"]["paths"]
    assert path[:2] == ["Statement all", CHECKMARX]
    assert "Decrypt" in path[2]
    assert path[4] == "access ends"


def test_what_removal_ends(page: Node) -> None:
    """Per statement: the keys that have it, the operations that end with it, and the resources that become unreadable."""
    rows = {row["source_id"]: row for row in page.data("vendor_paths")}
    assert set(rows) == {"use", "all"}
    assert (rows["use"]["keys"], rows["use"]["ending_keys"], rows["use"]["dependents"]) == (2, 2, 4)
    assert "Decrypt" in rows["use"]["ending"]
    assert "CreateGrant" not in rows["use"]["ending"]
    assert "CreateGrant" in rows["all"]["ending"]


def test_deviations_and_protected_data(page: Node) -> None:
    """The checks of the profile with their fixes, and the resources of the vendor's keys, are those of this vendor only."""
    assert {row["profile"] for row in page.data("checks")} == {"checkmarx-one"}
    assert {row["key_name"] for row in page.data("references")} == {"alias/going", "alias/off"}
    assert {row["account_id"] for row in page.data("vendor_keys")} == {SHOP}
    assert broken_links(page) == set()


def test_a_party_without_a_profile(settings: Settings, tmp_path: Path) -> None:
    """A known party with a hostile name and no profile has the keys of its account, and no requirements."""
    page = report_about("vendor <b>inc</b>", settings, tmp_path)
    (key,) = page.data("vendor_keys")
    assert (key["key_arn"], key["result"], key["operations"]) == (LAKE, "shared", "Decrypt, Encrypt")
    assert key["paths"][0][:2] == ["Statement Vendor", VENDOR]
    assert "No profile states what Vendor <b>Inc</b> requires" in page.one("section", id="vendors").text
    assert page.one("h1").text == "Vendor <b>Inc</b>: access to KMS keys"
    assert broken_links(page) == set()


def test_a_party_without_access(settings: Settings, tmp_path: Path) -> None:
    """A known party that can use no key has a report that says so, as far as known; an unknown name is an error."""
    page = report_about("Cerby", settings, tmp_path)
    assert "Cerby can use no key, as far as known." in page.one("section", id="keys").text
    with pytest.raises(QueryError, match="there is no vendor 'Cerbi' in the ledger: did you mean Cerby"):
        report_about("Cerbi", settings, tmp_path)


@pytest.mark.deep
def test_as_of_an_earlier_run(settings: Settings, tmp_path: Path) -> None:
    """As of a run before a policy was opened to a vendor, it can use no key."""
    vendor = "Vendor <b>Inc</b>"
    (path,) = write([find("vendor", vendor)], settings.report.mart, tmp_path, settings, subject=vendor, as_of="2")
    assert read(path.read_text("utf-8")).data("vendor_keys") == []
