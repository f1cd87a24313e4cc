"""Runs that are limited to accounts or regions: everything else keeps its facts, gaps and coverage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from crawler import crawl as crawl_module
from crawler.crawl import crawl, unread_accounts
from crawler.empty_regions import find_empty_regions
from crawler.progress import Progress
from crawler.scheduler import last_calls
from crawler.selection import EVERYTHING, Selection, SelectionError
from crawler.writer import CrawlResult
from models.settings import Settings
from models.tables.keys import Key, KeyLastUse
from models.tables.organization import Account
from models.tables.resources import ResourceKey
from models.tables.runs import CrawlLock, Gap, Run, RunStatus, ScopeCoverage
from tests.crawler.empty_ledger import Ledger
from tests.crawler.http_stub import (
    IRELAND,
    MANAGEMENT,
    MEMBER,
    SCOPES,
    VIRGINIA,
    StubServer,
    account_of,
    key_of,
    serving,
)
from tests.crawler.scripted_aws import Answer, RecordedCall, Result, aws_error, denied

ONLY_MEMBER, ONLY_IRELAND = Selection((MEMBER,)), Selection((), (IRELAND,))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving() as loopback:
        yield loopback


def settings_of(aws: StubServer, ledger: Ledger, **groups: Any) -> Settings:
    crawl_settings = {"max_attempts": 1, "quota_share_percent": 100, "resource_types": ["AWS::SecretsManager::Secret"]}
    values = {"database": f"sqlite:///{ledger.path}", "aws": {"endpoint_url": aws.url}, "crawl": crawl_settings}
    return Settings.model_validate({**values, **groups})


def crawled(aws: StubServer, ledger: Ledger, selection: Selection = EVERYTHING, **options: Any) -> CrawlResult:
    """Crawl the stub organization, or a part of it."""
    return crawl(settings_of(aws, ledger), "test", Progress(live=False), selection=selection, **options)


def coverage(ledger: Ledger, run_id: int) -> dict[tuple[str, str], tuple[str, int | None]]:
    """The outcome of each account-region of a run, and the earlier run that it is from."""
    table = ScopeCoverage.__table__
    query = select(table.c.account_id, table.c.region, table.c.outcome, table.c.read_run_id)
    with ledger.engine.connect() as connection:
        rows = connection.execute(query.where(table.c.run_id == run_id))
        return {(account, region): (outcome, read_run) for account, region, outcome, read_run in rows}


def without_keys(aws: StubServer, account: str) -> Answer:
    """Let an account have no key any more; returns the usual response."""
    usual = aws.answers["kms:ListKeys"]

    def keys(call: RecordedCall) -> Result:
        if account_of(call) == account:
            return {"Keys": [], "Truncated": False}
        assert callable(usual)
        return usual(call)

    aws.answers["kms:ListKeys"] = keys
    return usual


def keys_of(ledger: Ledger) -> set[str]:
    return {row["key_arn"] for row in ledger.current(Key)}


def runs(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Number, status and limits of each run."""
    query = select(Run.run_id, Run.status, Run.only_accounts, Run.only_regions).order_by(Run.run_id)
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_run_of_one_account_leaves_the_others_as_they_are(aws: StubServer, ledger: Ledger) -> None:
    """Only the account is called; a key deleted elsewhere is noticed by the next full run, and by no limited one."""
    crawled(aws, ledger)
    without_keys(aws, MANAGEMENT)
    aws.calls.clear()
    result = crawled(aws, ledger, ONLY_MEMBER)
    assert (result.status, result.accounts, result.scopes, result.gaps) == (RunStatus.COMPLETE, 1, 2, 0)
    assert aws.listed_scopes() == {(MEMBER, IRELAND), (MEMBER, VIRGINIA)}
    assert keys_of(ledger) == {key_of(*scope) for scope in SCOPES}
    own = {(MEMBER, region): ("complete", None) for region in (IRELAND, VIRGINIA)}
    other = {(MANAGEMENT, region): ("complete", 1) for region in (IRELAND, VIRGINIA)}
    assert coverage(ledger, 2) == {**own, **other}
    for model in (Account, Key, ResourceKey, KeyLastUse):
        assert {(row["valid_from"], row["valid_to"]) for row in ledger.rows(model)} == {(1, None)}
    assert runs(ledger) == [(1, "complete", None, None), (2, "complete", MEMBER, None)]
    crawled(aws, ledger)
    assert keys_of(ledger) == {key_of(MEMBER, IRELAND), key_of(MEMBER, VIRGINIA)}
    assert coverage(ledger, 3) == dict.fromkeys(SCOPES, ("complete", None))


@pytest.mark.deep
def test_a_deleted_key_in_the_account_is_noticed(aws: StubServer, ledger: Ledger) -> None:
    """The limited run closes what the account no longer has, as a full run does."""
    crawled(aws, ledger)
    without_keys(aws, MEMBER)
    crawled(aws, ledger, ONLY_MEMBER)
    assert keys_of(ledger) == {key_of(MANAGEMENT, IRELAND), key_of(MANAGEMENT, VIRGINIA)}


def test_a_run_of_one_region_leaves_the_other_regions(aws: StubServer, ledger: Ledger) -> None:
    """The region is read in every account, and the others keep the outcome of the earlier run, however many runs follow."""
    crawled(aws, ledger)
    for run_id in (2, 3):
        crawled(aws, ledger, ONLY_IRELAND)
        expected = {scope: ("complete", None if scope[1] == IRELAND else 1) for scope in SCOPES}
        assert coverage(ledger, run_id) == expected
    assert keys_of(ledger) == {key_of(*scope) for scope in SCOPES}
    assert aws.listed_scopes() == SCOPES
    assert runs(ledger)[1] == (2, "complete", None, IRELAND)


def test_gaps_of_others_stay_and_are_not_counted(aws: StubServer, ledger: Ledger) -> None:
    """A denial elsewhere neither makes the limited run partial, nor is it closed; the account that failed is not named again."""
    usual = aws.answers["sts:AssumeRole"]
    aws.answers["sts:AssumeRole"] = aws_error("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    aws.answers["kms:GetKeyLastUsage"] = denied("kms:GetKeyLastUsage")
    assert crawled(aws, ledger).status is RunStatus.PARTIAL
    gaps = ledger.current(Gap)
    aws.answers["kms:GetKeyLastUsage"] = {"KeyLastUsage": {}, "TrackingStartDate": 1767225600.0}
    aws.answers["sts:AssumeRole"] = usual
    result = crawled(aws, ledger, Selection((MANAGEMENT,), (VIRGINIA,)))
    assert (result.status, result.scopes) == (RunStatus.PARTIAL, 1)  # its own last use was polled in run 1
    assert ledger.current(Gap) == gaps
    assert coverage(ledger, 2) == {
        (MANAGEMENT, VIRGINIA): ("complete", None),
        (MANAGEMENT, IRELAND): ("complete", 1),
        (MEMBER, "*"): ("failed", 1),
    }
    assert unread_accounts(settings_of(aws, ledger), 2) is None
    assert crawled(aws, ledger, ONLY_MEMBER).status is RunStatus.COMPLETE
    assert ledger.current(Gap) == []
    assert coverage(ledger, 3)[MANAGEMENT, IRELAND] == ("complete", 1)


def test_an_account_that_cannot_be_entered_keeps_its_other_regions(aws: StubServer, ledger: Ledger) -> None:
    """The refused role is the gap of the account, and the regions that were not part of the run keep their outcome."""
    crawled(aws, ledger)
    aws.answers["sts:AssumeRole"] = aws_error("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    result = crawled(aws, ledger, ONLY_IRELAND)
    assert (result.status, result.gaps) == (RunStatus.PARTIAL, 1)
    assert coverage(ledger, 2) == {
        (MANAGEMENT, IRELAND): ("complete", None),
        (MANAGEMENT, VIRGINIA): ("complete", 1),
        (MEMBER, VIRGINIA): ("complete", 1),
        (MEMBER, "*"): ("failed", None),
    }


def test_what_no_run_has_read_is_recorded_as_not_part_of_the_run(aws: StubServer, ledger: Ledger) -> None:
    """A first run of one account and region knows the other accounts, and claims nothing about them."""
    crawled(aws, ledger, Selection((MEMBER,), (IRELAND,)))
    assert coverage(ledger, 1) == {
        (MEMBER, IRELAND): ("complete", None),
        (MEMBER, VIRGINIA): ("not_in_run", None),
        (MANAGEMENT, "*"): ("not_in_run", None),
    }
    assert {row["account_id"] for row in ledger.current(Account)} == {MANAGEMENT, MEMBER}
    crawled(aws, ledger, Selection((MANAGEMENT,)))
    assert coverage(ledger, 2)[MEMBER, IRELAND] == ("complete", 1)
    assert (MEMBER, VIRGINIA) not in coverage(ledger, 2)
    crawled(aws, ledger)
    assert coverage(ledger, 3) == dict.fromkeys(SCOPES, ("complete", None))


@pytest.mark.parametrize(
    ("selection", "groups", "message"),
    [
        (Selection(("999999999999",)), {}, "--account 999999999999: the organization has no such account"),
        (
            ONLY_MEMBER,
            {"organization": {"exclude": {"accounts": [MEMBER]}}},
            f"--account {MEMBER}: the settings exclude the account",
        ),
        (Selection((), (IRELAND, "eu-west-9")), {}, "--region eu-west-9: AWS has no such region"),
        (ONLY_IRELAND, {"regions": {"exclude": [IRELAND]}}, f"--region {IRELAND}: the settings exclude the region"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(
    aws: StubServer, ledger: Ledger, selection: Selection, groups: dict[str, Any], message: str
) -> None:
    """The sentence names it, the exit code is 2, and no run is left in the ledger: the next one is the first."""
    with pytest.raises(SelectionError) as caught:
        crawl(settings_of(aws, ledger, **groups), "test", Progress(live=False), selection=selection)
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    assert runs(ledger) == []
    with ledger.engine.connect() as connection:
        assert connection.execute(select(CrawlLock.lock_id)).all() == []
    assert ledger.rows(Account) == []


def test_a_resumed_run_stays_limited(aws: StubServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after its scopes were saved, the run is finished without a call to other accounts; nothing is read twice."""
    crawled(aws, ledger)

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(crawl_module, "resolve_references", interrupt)
        with pytest.raises(KeyboardInterrupt):
            crawled(aws, ledger, ONLY_MEMBER)
    aws.calls.clear()
    result = crawled(aws, ledger, resume=True)
    assert (result.run_id, result.status, result.scopes) == (2, RunStatus.COMPLETE, 2)
    assert aws.listed_scopes() == set()
    assert runs(ledger)[1] == (2, "complete", MEMBER, None)
    assert coverage(ledger, 2)[MANAGEMENT, IRELAND] == ("complete", 1)


@pytest.mark.deep
def test_an_interrupted_run_in_between_counts_as_far_as_it_came(aws: StubServer, ledger: Ledger) -> None:
    """What an interrupted run has read is newer than the last run that ended, and is carried instead."""
    crawled(aws, ledger)
    crawled(aws, ledger)
    with ledger.engine.begin() as connection:
        virginia = delete(ScopeCoverage).where(ScopeCoverage.run_id == 2, ScopeCoverage.region == VIRGINIA)
        connection.execute(virginia)
        connection.execute(update(Run).where(Run.run_id == 2).values(status=str(RunStatus.INTERRUPTED)))
    crawled(aws, ledger, ONLY_MEMBER)
    assert coverage(ledger, 3)[MANAGEMENT, IRELAND] == ("complete", 2)
    assert coverage(ledger, 3)[MANAGEMENT, VIRGINIA] == ("complete", 1)


@pytest.mark.deep
def test_scheduling_and_empty_regions_ignore_that_a_run_was_limited(aws: StubServer, ledger: Ledger) -> None:
    """The sizes of all scopes are known after it, and it is no full crawl of the regions that it did not read."""
    aws.answers["kms:ListKeys"] = {"Keys": [], "Truncated": False}
    aws.answers["secretsmanager:ListSecrets"] = {"SecretList": []}
    crawled(aws, ledger)
    crawled(aws, ledger, ONLY_MEMBER)
    calls = last_calls(ledger.engine, 3)
    assert {scope for scope in SCOPES if calls[scope] == 1} == {(MEMBER, IRELAND), (MEMBER, VIRGINIA)}
    assert calls[MANAGEMENT, IRELAND] == last_calls(ledger.engine, 2)[MANAGEMENT, IRELAND] > 1
    assert all("run 1 " in reason for reason in find_empty_regions(ledger.engine, 7).values())
    assert len(find_empty_regions(ledger.engine, 7)) == len(SCOPES)
