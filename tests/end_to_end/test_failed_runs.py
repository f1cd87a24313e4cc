"""A night that cannot see everything: nothing of what it missed ends, it is told with its age, and the next night is quiet.

Three nights of an organization in which nothing changes. In the second one an account refuses ListKeys in a region, the
configuration excludes a region, an account is suspended, one has left the organization, and one has opted out of a region.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Denial, Faults
from benchmarks.fake_aws.presets import preset
from models.store.engine import connect
from models.tables import versioned_tables
from models.tables.organization import Account, AccountRegion
from models.tables.runs import Gap
from tests import command

RULES = {path.stem for path in (Path(__file__).parents[2] / "reports" / "rules" / "shipped").glob("*.sql")}
OPT_IN = "af-south-1"
DENIED, EXCLUDED = "eu-west-1", "eu-central-1"
CONCLUSIONS = "key_analysis"
"""Follows from other facts, also from who is in the organization."""
ABOUT_PLACES = {Account.__tablename__, AccountRegion.__tablename__, Gap.__tablename__, "finding", "rule_result"}
"""Facts that say what a night could see; all others are facts of what is there."""


@dataclass
class Nights:
    """What three nights left behind."""

    directory: Path
    accounts: dict[str, str]
    """Account ids by the trouble that each had in the second night."""
    exit_codes: list[int]
    reports: list[str]
    """The estate report of each night, as text without markup."""

    def sql(self, query: str, night: int) -> list[dict[str, Any]]:
        """Rows of the mart as of a night."""
        done = _run(
            self.directory, {}, "sql", query, "--format", "json", "--mart", f"night-{night}.duckdb", "--limit", "100000"
        )
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def of(self, trouble: str, region: str | None = None) -> str:
        """A condition on account, and region, of the place with this trouble."""
        account = f"account_id = '{self.accounts[trouble]}'"
        return account if region is None else f"{account} AND region = '{region}'"


def _run(directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return command.run(*arguments, "--config", "settings.yaml", env=env, cwd=directory)


def _settings(directory: Path, fake: FakeAws, *, excluded: str = "") -> None:
    (directory / "settings.yaml").write_text(
        "database: sqlite:///ledger.db\n"
        f"aws: {{endpoint_url: {fake.url}}}\ncrawl: {{quota_share_percent: 100}}\n"
        f"role: {{external_id: {fake.world.parameters.external_id}}}\n"
        f"regions: {{exclude: [{excluded}]}}\n"
        "report: {list_limit: 100000}\n"
        # Findings are not what is compared here.
        f"rules: {{disable: {sorted(RULES - {'key-rotation'})}}}\n",
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """The three nights, each with its report."""
    directory = tmp_path_factory.mktemp("nights")
    parameters = preset("tiny", seed=3, accounts=6, adversarial=False, keys_per_place=3, resources=0.1)
    codes: list[int] = []
    reports: list[str] = []
    with FakeAws(parameters) as fake:
        accounts = fake.world.accounts
        _, denied, suspended, whole, opted_out, left = accounts
        # An account is found by its place in the list, so the last one is the one that can be missing.
        accounts[4] = replace(opted_out, opt_ins=(OPT_IN,), active=(*opted_out.active, OPT_IN))
        quiet = list(accounts)
        troubled = [*quiet[:2], replace(suspended, state="SUSPENDED"), whole, replace(quiet[4], opt_ins=())]
        for night in (1, 2, 3):
            bad = night == 2
            accounts[:] = troubled if bad else quiet
            refused = (Denial(operation="kms:ListKeys", account=denied.id, region=DENIED),) if bad else ()
            fake.control.faults(Faults(denials=refused))
            _settings(directory, fake, excluded=EXCLUDED if bad else "")
            crawled = _run(directory, fake.environment(), "crawl")
            assert "Traceback" not in crawled.stderr, crawled.stderr
            codes.append(crawled.returncode)
            written = _run(directory, {}, "report", "overview", "--output", f"night-{night}")
            assert written.returncode == 0, written.stderr
            reports.append(_text(directory / f"night-{night}" / "kmsledger-overview.html"))
        for night in (1, 2, 3):
            built = _run(
                directory, {}, "mart", "--as-of", str(night), "--out", str(directory / f"night-{night}.duckdb")
            )
            assert built.returncode == 0, built.stderr
        troubles = {
            "denied": denied.id,
            "suspended": suspended.id,
            "opted out": opted_out.id,
            "left": left.id,
            "none": whole.id,
        }
    return Nights(directory, troubles, codes, reports)


def _text(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")).split())


def _keys(nights: Nights, place: str, night: int) -> set[tuple[str, str]]:
    """Key ARN and `known` of a place, leaving out keys of which something is always refused."""
    rows = nights.sql(f'SELECT key_arn, freshness FROM keys WHERE {place} AND len("unknown") = 0', night)
    return {(row["key_arn"], row["known"]) for row in rows}


def _outcomes(nights: Nights, place: str) -> list[dict[str, Any]]:
    """Coverage of the second night, without keys of which something is always refused."""
    query = f"SELECT region, outcome, action, cause_text, consecutive_runs FROM coverage WHERE {place} AND coalesce(subject, '') = ''"
    return nights.sql(f"{query} ORDER BY region, outcome", 2)


def _last_known_for_one_night(nights: Nights, place: str) -> None:
    """Every key is there on all three nights: known, last known, known."""
    first, second, third = (_keys(nights, place, night) for night in (1, 2, 3))
    assert len(first) > 3
    assert {known for _, known in first} == {"yes"}
    assert second == {(arn, "last known") for arn, _ in first}
    assert third == first
    (arn, _), *_ = sorted(first)
    key_id = arn.rpartition("/")[2]
    assert re.search(rf"{key_id}[^/]*? last known, 1 night old", nights.reports[1])
    assert not re.search(rf"{key_id}[^/]*? last known", nights.reports[2])


def test_a_night_with_gaps_says_so_in_its_exit_code(nights: Nights) -> None:
    """Some keys are never readable in this organization, so each night is partial and none failed."""
    assert nights.exit_codes == [3, 3, 3]


def test_no_fact_ends_or_begins_after_the_first_night(nights: Nights) -> None:
    """Whatever a night missed keeps its version: nothing was closed, nothing written anew."""
    engine = connect(f"sqlite:///{nights.directory / 'ledger.db'}", must_exist=True)
    compared = 0
    with engine.connect() as connection:
        for name, model in versioned_tables().items():
            if name in {*ABOUT_PLACES, CONCLUSIONS}:
                continue
            table = model.table()
            intervals = connection.execute(select(table.c.valid_from, table.c.valid_to)).all()
            assert {tuple(interval) for interval in intervals} <= {(1, None)}, name
            compared += len(intervals)
    engine.dispose()
    assert compared > 1000


def test_conclusions_change_only_for_the_account_that_was_out_of_the_organization(nights: Nights) -> None:
    """Who can use a key is concluded anew only where its account was a stranger for a night; then it is as before."""
    engine = connect(f"sqlite:///{nights.directory / 'ledger.db'}", must_exist=True)
    table = versioned_tables()[CONCLUSIONS].table()
    held: dict[str, list[tuple[int, int | None, bytes]]] = {}
    with engine.connect() as connection:
        columns = (table.c.key_arn, table.c.valid_from, table.c.valid_to, table.c.analysis_id)
        for arn, *version in connection.execute(select(*columns).order_by(table.c.key_arn, table.c.valid_from)):
            held.setdefault(arn, []).append(tuple(version))
    engine.dispose()
    changed = {arn: versions for arn, versions in held.items() if [one[:2] for one in versions] != [(1, None)]}
    assert {arn.split(":")[4] for arn in changed} == {nights.accounts["left"]}
    assert len(changed) < len(held)
    for versions in changed.values():
        assert [one[:2] for one in versions] == [(1, 2), (2, 3), (3, None)]
        assert versions[0][2] == versions[2][2] != versions[1][2]


def test_list_keys_denied_for_one_night(nights: Nights) -> None:
    """The region's keys are last known, one night old, because the list is a gap; then all is as before."""
    place = nights.of("denied", DENIED)
    _last_known_for_one_night(nights, place)
    gap, scope = _outcomes(nights, place)
    assert (gap["outcome"], gap["action"], gap["nights"]) == ("gap", "kms:ListKeys", 1)
    assert (gap["cause_text"], scope["outcome"]) == ("our role lacks the permission", "partial")
    # What is refused of a key every night is nothing of this one.
    troubles = f"SELECT operation, subject, outcome FROM coverage WHERE {place} AND outcome <> 'complete' ORDER BY ALL"
    assert nights.sql(troubles, 3) == nights.sql(troubles, 1)
    assert nights.sql(f"SELECT * FROM coverage WHERE {place} AND outcome <> 'complete' AND since_run > 1", 3) == []
    assert "A whole list is missing (kms:ListKeys) in" in nights.reports[1]


def test_a_region_left_out_by_the_configuration_for_one_night(nights: Nights) -> None:
    """The region's keys are last known, and coverage says that the configuration left it out."""
    place = nights.of("denied", EXCLUDED)
    _last_known_for_one_night(nights, place)
    (scope,) = _outcomes(nights, place)
    assert (scope["outcome"], scope["cause_text"], scope["nights"]) == ("excluded", "left out by the configuration", 1)
    assert "excluded by configuration" in nights.reports[1]


def test_a_region_opted_out_of_for_one_night(nights: Nights) -> None:
    """The region's keys are last known, and coverage says that the region is not enabled."""
    place = nights.of("opted out", OPT_IN)
    _last_known_for_one_night(nights, place)
    (scope,) = _outcomes(nights, place)
    assert (scope["outcome"], scope["nights"]) == ("disabled", 1)
    assert scope["cause_text"] == "the region is not enabled in the account"
    assert "region not enabled" in nights.reports[1]


def test_an_account_suspended_for_one_night(nights: Nights) -> None:
    """The account's keys are last known in all regions, and coverage says that it is suspended."""
    place = nights.of("suspended")
    _last_known_for_one_night(nights, place)
    (scope,) = _outcomes(nights, place)
    assert (scope["region"], scope["outcome"], scope["cause_text"]) == ("*", "suspended", "state SUSPENDED")
    assert "account suspended or closed: state SUSPENDED" in nights.reports[1]


def test_an_account_out_of_the_organization_for_one_night(nights: Nights) -> None:
    """The account's keys are last known in all regions, and coverage says that it left."""
    place = nights.of("left")
    _last_known_for_one_night(nights, place)
    scopes = _outcomes(nights, place)
    assert [(scope["region"], scope["outcome"]) for scope in scopes] == [("*", "left")]
    assert "account left the organization" in nights.reports[1]


def test_the_places_beside_are_read_as_ever(nights: Nights) -> None:
    """What had no trouble is known in the bad night too."""
    for region in ("us-east-1", DENIED):
        first, second = (_keys(nights, nights.of("none", region), night) for night in (1, 2))
        assert first == second
        assert {known for _, known in second} == {"yes"}


def test_only_the_accounts_changed(nights: Nights) -> None:
    """No change of a key or resource is told in any night; that accounts went and came back is told."""
    rows = nights.sql("SELECT run_id, account_id, event_type FROM changes ORDER BY run_id, event_type", 3)
    suspended, left = nights.accounts["suspended"], nights.accounts["left"]
    assert {(row["run_id"], row["account_id"], row["kind"]) for row in rows} == {
        (2, suspended, "account_state"),
        (2, left, "account_left"),
        (3, suspended, "account_state"),
        (3, left, "account_state"),
    }
