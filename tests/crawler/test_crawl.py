"""Whole crawls over HTTP: results after failures of accounts, scopes or the database, and after an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from crawler import writer
from crawler.aws.credentials import ASSUME_ROLE
from crawler.aws.errors import AwsError
from crawler.collector import Collected
from crawler.crawl import crawl, unread_accounts
from crawler.progress import Progress
from crawler.spec import Scope
from crawler.writer import Coverage, CrawlResult, Finished
from models.errors import UserError
from models.settings import Settings
from models.store.crawl_lock import LockedError
from models.store.engine import DatabaseError
from models.store.scd2_merge import Batch
from models.tables.keys import Key, KeyMetadata
from models.tables.organization import Account
from models.tables.resources import ResourceKey
from models.tables.runs import Cause, CrawlLock, Gap, Outcome, Run, RunStatus, ScopeCoverage
from tests.crawler.empty_ledger import Ledger
from tests.crawler.http_stub import IRELAND, MANAGEMENT, MEMBER, SCOPES, StubServer, account_of, key_of, serving
from tests.crawler.scripted_aws import RecordedCall, Result, aws_error, denied

SECRETS_ONLY = ["AWS::SecretsManager::Secret"]
CRAWL = """
import json, sys
from crawler.progress import Progress
from crawler.crawl import crawl
from models.settings import Settings
crawl(Settings.model_validate(json.loads(sys.argv[1])), "test", Progress(live=False))
"""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving() as loopback:
        yield loopback


def written(aws: StubServer, ledger: Ledger, **crawl_settings: Any) -> dict[str, Any]:
    """The settings of a crawl of the stub organization, as in a settings file."""
    return {
        "database": f"sqlite:///{ledger.path}",
        "aws": {"endpoint_url": aws.url, "connect_timeout": 5, "read_timeout": 60},
        "crawl": {"max_attempts": 1, "quota_share_percent": 100, "resource_types": SECRETS_ONLY, **crawl_settings},
    }


def crawled(aws: StubServer, ledger: Ledger, *, resume: bool = False, **crawl_settings: Any) -> CrawlResult:
    """Crawl the stub organization."""
    settings = Settings.model_validate(written(aws, ledger, **crawl_settings))
    return crawl(settings, "test", Progress(live=False), resume=resume)


def runs(ledger: Ledger) -> list[tuple[str, str | None]]:
    """Return status and message of every run."""
    with ledger.engine.connect() as connection:
        return [(row.status, row.message) for row in connection.execute(select(Run.status, Run.message))]


def outcomes(ledger: Ledger, run_id: int) -> dict[tuple[str, str], str]:
    """Return the outcome of each scope of a run."""
    table = ScopeCoverage.__table__
    query = select(table.c.account_id, table.c.region, table.c.outcome).where(table.c.run_id == run_id)
    with ledger.engine.connect() as connection:
        return {(account, region): outcome for account, region, outcome in connection.execute(query)}


def locks(ledger: Ledger) -> int:
    """Return the number of held locks."""
    with ledger.engine.connect() as connection:
        return len(connection.execute(select(CrawlLock.lock_id)).all())


def wait_for(condition: Any) -> None:
    """Wait until a condition is true, at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_complete_crawl(aws: StubServer, ledger: Ledger) -> None:
    """Every account and region is crawled, saved and resolved; a second run without changes writes no fact."""
    result = crawled(aws, ledger)
    assert (result.status, result.exit_code) == (RunStatus.COMPLETE, 0)
    assert (result.accounts, result.scopes, result.gaps) == (2, 4, 0)
    assert outcomes(ledger, 1) == dict.fromkeys(SCOPES, "complete")
    assert {row["key_arn"] for row in ledger.current(Key)} == {key_of(*scope) for scope in SCOPES}
    assert {row["key_class"] for row in ledger.current(ResourceKey)} == {"customer"}
    crawled(aws, ledger)
    for model in (Account, Key, KeyMetadata, ResourceKey):
        assert {(row["valid_from"], row["valid_to"]) for row in ledger.rows(model)} == {(1, None)}
    assert runs(ledger) == [("complete", None)] * 2
    assert locks(ledger) == 0


def test_an_account_without_the_role_is_a_gap(aws: StubServer, ledger: Ledger) -> None:
    """The other account is crawled; the facts of this account stay open; the gap closes when the role is restored."""
    crawled(aws, ledger)
    usual = aws.answers["sts:AssumeRole"]
    aws.answers["sts:AssumeRole"] = aws_error("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    result = crawled(aws, ledger)
    assert (result.status, result.exit_code, result.accounts) == (RunStatus.PARTIAL, 3, 1)
    assert outcomes(ledger, 2)[MEMBER, "*"] == "failed"
    settings = Settings.model_validate(written(aws, ledger))
    assert unread_accounts(settings, 1) is None
    assert unread_accounts(settings, 2) == (
        f"1 of 2 accounts could not be entered (the role {settings.role.name} does not exist or does not trust the crawler): "
        "see `kmsledger denials`"
    )
    (gap,) = ledger.current(Gap)
    assert (gap["account_id"], gap["operation"], gap["cause"]) == (
        MEMBER,
        "AssumeRole",
        Cause.ROLE_MISSING_OR_UNTRUSTED,
    )
    assert len(ledger.current(Key)) == 4
    assert {row["key_class"] for row in ledger.current(ResourceKey)} == {"customer"}
    aws.answers["sts:AssumeRole"] = usual
    assert crawled(aws, ledger).status is RunStatus.COMPLETE
    assert ledger.current(Gap) == []


def test_failed_region_listings_are_a_gap_of_the_account(aws: StubServer, ledger: Ledger) -> None:
    """If neither the organization nor the account lists regions, the account failed; it does not count as having none."""
    aws.answers["account:ListRegions"] = denied("account:ListRegions")
    result = crawled(aws, ledger)
    assert (result.status, result.scopes) == (RunStatus.PARTIAL, 0)
    assert outcomes(ledger, 1) == {(MANAGEMENT, "*"): "failed", (MEMBER, "*"): "failed"}
    assert {row["operation"] for row in ledger.current(Gap)} == {"DescribeRegions"}


def test_a_scope_stops_at_its_deadline(aws: StubServer, ledger: Ledger) -> None:
    """The deadline records a gap, closes no fact, and does not delay other scopes."""
    crawled(aws, ledger)
    released = aws.stall(MEMBER, IRELAND)
    result = crawled(aws, ledger, scope_deadline=1)
    released.set()
    assert (result.status, result.scopes) == (RunStatus.PARTIAL, 3)
    assert outcomes(ledger, 2) == {**dict.fromkeys(SCOPES, "complete"), (MEMBER, IRELAND): "failed"}
    (gap,) = ledger.current(Gap)
    assert (gap["account_id"], gap["region"], gap["cause"]) == (MEMBER, IRELAND, Cause.DEADLINE)
    assert len(ledger.current(Key)) == 4
    assert {row["key_class"] for row in ledger.current(ResourceKey)} == {"customer"}
    assert crawled(aws, ledger).status is RunStatus.COMPLETE
    assert ledger.current(Gap) == []


def test_a_second_crawl_is_rejected_while_the_first_runs(aws: StubServer, ledger: Ledger) -> None:
    """The message names the run, process, host and start time of the first crawl, which continues undisturbed."""
    released = aws.stall(MEMBER, IRELAND)
    results: list[CrawlResult] = []
    first = threading.Thread(target=lambda: results.append(crawled(aws, ledger)))
    first.start()
    try:
        wait_for(lambda: (MEMBER, IRELAND) in aws.listed_scopes())
        with pytest.raises(LockedError, match=rf"run 1 has been crawling .* since .* UTC \(process {os.getpid()} on"):
            crawled(aws, ledger)
    finally:
        released.set()
        first.join()
    assert [result.status for result in results] == [RunStatus.COMPLETE]
    assert len(runs(ledger)) == 1


def test_ctrl_c_keeps_saved_scopes_and_resume_finishes_the_run(aws: StubServer, ledger: Ledger) -> None:
    """Saved scopes are kept, the run is marked as interrupted, the lock is released; resume crawls only missing scopes."""
    released = aws.stall(MEMBER, IRELAND)
    # A shell's background jobs and their children ignore SIGINT.
    with_default_sigint = ("env", "--default-signal=INT")
    command = [*with_default_sigint, sys.executable, "-c", CRAWL, json.dumps(written(aws, ledger))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        wait_for(lambda: running.poll() is not None or set(outcomes(ledger, 1)) == SCOPES - {(MEMBER, IRELAND)})
        running.send_signal(signal.SIGINT)
        time.sleep(0.2)
        released.set()
        _, stderr = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr
    assert runs(ledger) == [("interrupted", "interrupted")]
    assert outcomes(ledger, 1) == dict.fromkeys(SCOPES - {(MEMBER, IRELAND)}, "complete")
    assert (len(ledger.current(Key)), locks(ledger)) == (3, 0)
    aws.calls.clear()
    result = crawled(aws, ledger, resume=True)
    assert (result.run_id, result.status, result.scopes) == (1, RunStatus.COMPLETE, 4)
    assert aws.listed_scopes() == {(MEMBER, IRELAND)}
    assert len(ledger.current(ResourceKey)) == 4


def test_resume_returns_the_result_of_a_crawl_that_has_ended(aws: StubServer, ledger: Ledger) -> None:
    """A run whose crawl has ended is not crawled again: its result is returned. An empty ledger is a usage error."""
    with pytest.raises(UserError, match="no run to resume") as error:
        crawled(aws, ledger, resume=True)
    assert error.value.exit_code == 2
    result = crawled(aws, ledger)
    aws.calls.clear()
    assert crawled(aws, ledger, resume=True) == result
    assert (aws.calls, runs(ledger), locks(ledger)) == ([], [("complete", None)], 0)


def test_accounts_that_could_not_be_entered_are_counted_by_cause(aws: StubServer, ledger: Ledger) -> None:
    """Each cause has its number of accounts, the most frequent first; without a denial, the next command is `coverage`."""
    settings = Settings.model_validate(written(aws, ledger))
    causes = (Cause.EXTERNAL_ID, Cause.UNREACHABLE, Cause.UNREACHABLE)
    run_id = writer.start(ledger.engine, "test")
    with ledger.engine.begin() as connection:
        for number, cause in enumerate(causes):
            collected = Collected(Scope(f"11112222333{number}", "*", "aws"))
            code = "AccessDenied" if cause is Cause.EXTERNAL_ID else "Unreachable"
            collected.gap("*", ASSUME_ROLE, "", AwsError(cause, code, "no answer"))
            failed = collected.finish(Outcome.FAILED, cause.text)
            writer.save_scopes(connection, run_id, [failed])
        writer.save_scopes(
            connection, run_id, [Finished(Coverage(MEMBER, IRELAND, Outcome.COMPLETE, calls=1), Batch())]
        )
    text = (
        f"3 of 4 accounts could not be entered (2: the endpoint could not be reached; 1: the role "
        f"{settings.role.name}'s trust policy requires another external ID)"
    )
    assert unread_accounts(settings, run_id) == f"{text}: see `kmsledger denials`"
    with ledger.engine.begin() as connection:
        connection.execute(delete(ScopeCoverage).where(ScopeCoverage.account_id == "111122223330"))
    assert unread_accounts(settings, run_id) == (
        "2 of 3 accounts could not be entered (the endpoint could not be reached): see `kmsledger coverage`"
    )


def test_a_database_error_fails_the_run(aws: StubServer, ledger: Ledger) -> None:
    """The database error is raised once; the run is marked as failed with the same message, and the lock is released."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON scope_coverage WHEN NEW.account_id = '{MEMBER}' "
            "BEGIN SELECT RAISE(ABORT, 'no more rows today'); END"
        )
    with pytest.raises(DatabaseError, match="no more rows today") as error:
        crawled(aws, ledger)
    assert "\n" not in error.value.message
    assert runs(ledger) == [("failed", error.value.message)]
    assert locks(ledger) == 0


def test_invalid_characters_do_not_fail_the_run(aws: StubServer, ledger: Ledger) -> None:
    """A lone surrogate or a NUL in a description loses that character only."""
    usual = aws.answers["kms:DescribeKey"]

    def describe(call: RecordedCall) -> Result:
        response = usual(call) if callable(usual) else usual
        assert not isinstance(response, BaseException)
        text = "a\ud800b" if account_of(call) == MEMBER else "a\x00b"
        return {"KeyMetadata": {**response["KeyMetadata"], "Description": text}}

    aws.answers["kms:DescribeKey"] = describe
    assert crawled(aws, ledger).exit_code in {0, 3}
    assert len(ledger.current(Key)) == 4
    for row in ledger.current(KeyMetadata):
        assert "\x00" not in row["description"]


def test_an_unexpected_error_closes_the_run(aws: StubServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an unexpected error the run is marked as failed and the next crawl can start."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("crawler.crawl.resolve_references", broken)
    with pytest.raises(ZeroDivisionError):
        crawled(aws, ledger)
    assert runs(ledger)[0][0] == "failed"
    assert locks(ledger) == 0


def test_no_credentials_leave_a_failed_run(
    aws: StubServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A crawl that fails at its start is recorded with the reason."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with pytest.raises(UserError, match="no AWS credentials") as error:
        crawled(aws, ledger)
    assert runs(ledger) == [("failed", error.value.message)]
