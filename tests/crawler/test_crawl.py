"""A whole crawl over HTTP: how it ends when accounts, scopes, the database or the user do not go along."""

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
from sqlalchemy import select

from crawler.crawl import CrawlResult, crawl
from crawler.progress import Progress
from models.errors import UserError
from models.settings import Settings
from models.store.crawl_lock import LockedError
from models.store.engine import DatabaseError
from models.tables.keys import Key, KeyMetadata
from models.tables.organization import Account
from models.tables.resources import ResourceKey
from models.tables.runs import Cause, CrawlLock, Gap, Run, RunStatus, ScopeCoverage
from tests.crawler.empty_ledger import Ledger
from tests.crawler.http_stub import IRELAND, MANAGEMENT, MEMBER, SCOPES, Loopback, account_of, key_of, serving
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
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving() as loopback:
        yield loopback


def written(aws: Loopback, ledger: Ledger, **crawl_settings: Any) -> dict[str, Any]:
    """The settings of a crawl of the loopback organization, as written in a file."""
    return {
        "database": f"sqlite:///{ledger.path}",
        "aws": {"endpoint_url": aws.url, "connect_timeout": 5, "read_timeout": 60},
        "crawl": {"max_attempts": 1, "quota_share_percent": 100, "resource_types": SECRETS_ONLY, **crawl_settings},
    }


def crawled(aws: Loopback, ledger: Ledger, *, resume: bool = False, **crawl_settings: Any) -> CrawlResult:
    """One crawl of it."""
    settings = Settings.model_validate(written(aws, ledger, **crawl_settings))
    return crawl(settings, "test", Progress(live=False), resume=resume)


def runs(ledger: Ledger) -> list[tuple[str, str | None]]:
    """Status and message of every run."""
    with ledger.engine.connect() as connection:
        return [(row.status, row.message) for row in connection.execute(select(Run.status, Run.message))]


def outcomes(ledger: Ledger, run_id: int) -> dict[tuple[str, str], str]:
    """What became of each scope of a run."""
    table = ScopeCoverage.__table__
    query = select(table.c.account_id, table.c.region, table.c.outcome).where(table.c.run_id == run_id)
    with ledger.engine.connect() as connection:
        return {(account, region): outcome for account, region, outcome in connection.execute(query)}


def locks(ledger: Ledger) -> int:
    """How many hold the ledger's lock."""
    with ledger.engine.connect() as connection:
        return len(connection.execute(select(CrawlLock.lock_id)).all())


def wait_for(what: Any) -> None:
    """Until something is so, a minute at most."""
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_whole_night(aws: Loopback, ledger: Ledger) -> None:
    """Every account and region is crawled, saved and linked; a second night on the same world writes no fact."""
    result = crawled(aws, ledger)
    assert (result.status, result.exit_code) == (RunStatus.COMPLETE, 0)
    assert (result.accounts, result.scopes, result.gaps) == (2, 4, 0)
    assert outcomes(ledger, 1) == dict.fromkeys(SCOPES, "complete")
    assert {row["key_arn"] for row in ledger.known(Key)} == {key_of(*scope) for scope in SCOPES}
    assert {row["key_class"] for row in ledger.known(ResourceKey)} == {"customer"}
    crawled(aws, ledger)
    for model in (Account, Key, KeyMetadata, ResourceKey):
        assert {(row["valid_from"], row["valid_to"]) for row in ledger.rows(model)} == {(1, None)}
    assert runs(ledger) == [("complete", None)] * 2
    assert locks(ledger) == 0


def test_an_account_without_the_role_is_a_gap(aws: Loopback, ledger: Ledger) -> None:
    """The other account is crawled; what was known of this one stays; the gap ends when the role is back."""
    crawled(aws, ledger)
    usual = aws.answers["sts:AssumeRole"]
    aws.answers["sts:AssumeRole"] = aws_error("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole")
    result = crawled(aws, ledger)
    assert (result.status, result.exit_code, result.accounts) == (RunStatus.PARTIAL, 3, 1)
    assert outcomes(ledger, 2)[MEMBER, "*"] == "failed"
    (gap,) = ledger.known(Gap)
    assert (gap["account_id"], gap["operation"], gap["cause"]) == (
        MEMBER,
        "AssumeRole",
        Cause.ROLE_MISSING_OR_UNTRUSTED,
    )
    assert len(ledger.known(Key)) == 4
    assert {row["key_class"] for row in ledger.known(ResourceKey)} == {"customer"}
    aws.answers["sts:AssumeRole"] = usual
    assert crawled(aws, ledger).status is RunStatus.COMPLETE
    assert ledger.known(Gap) == []


def test_regions_that_nobody_tells_are_a_gap_of_the_account(aws: Loopback, ledger: Ledger) -> None:
    """Neither the organization nor the account lists regions: the account failed, it is not an account without regions."""
    aws.answers["account:ListRegions"] = denied("account:ListRegions")
    result = crawled(aws, ledger)
    assert (result.status, result.scopes) == (RunStatus.PARTIAL, 0)
    assert outcomes(ledger, 1) == {(MANAGEMENT, "*"): "failed", (MEMBER, "*"): "failed"}
    assert {row["operation"] for row in ledger.known(Gap)} == {"DescribeRegions"}


def test_a_scope_that_takes_too_long_is_given_up(aws: Loopback, ledger: Ledger) -> None:
    """The deadline makes a gap, closes nothing, and holds up nobody else."""
    crawled(aws, ledger)
    released = aws.stall(MEMBER, IRELAND)
    result = crawled(aws, ledger, scope_deadline=1)
    released.set()
    assert (result.status, result.scopes) == (RunStatus.PARTIAL, 3)
    assert outcomes(ledger, 2) == {**dict.fromkeys(SCOPES, "complete"), (MEMBER, IRELAND): "failed"}
    (gap,) = ledger.known(Gap)
    assert (gap["account_id"], gap["region"], gap["cause"]) == (MEMBER, IRELAND, Cause.DEADLINE)
    assert len(ledger.known(Key)) == 4
    assert {row["key_class"] for row in ledger.known(ResourceKey)} == {"customer"}
    assert crawled(aws, ledger).status is RunStatus.COMPLETE
    assert ledger.known(Gap) == []


def test_a_second_crawl_is_told_who_is_crawling(aws: Loopback, ledger: Ledger) -> None:
    """While one crawl runs another is refused with run, process, machine and since when; the first one is not disturbed."""
    released = aws.stall(MEMBER, IRELAND)
    results: list[CrawlResult] = []
    first = threading.Thread(target=lambda: results.append(crawled(aws, ledger)))
    first.start()
    try:
        wait_for(lambda: (MEMBER, IRELAND) in aws.scopes_asked())
        with pytest.raises(LockedError, match=rf"run 1 is crawling .* since .* UTC \(process {os.getpid()} on"):
            crawled(aws, ledger)
    finally:
        released.set()
        first.join()
    assert [result.status for result in results] == [RunStatus.COMPLETE]
    assert len(runs(ledger)) == 1


def test_ctrl_c_keeps_what_was_saved_and_resume_finishes_it(aws: Loopback, ledger: Ledger) -> None:
    """Saved scopes stay, the run reads interrupted, the lock is free; resuming asks only what is missing."""
    released = aws.stall(MEMBER, IRELAND)
    # A job in the background of a shell does not listen to Ctrl-C, nor would what it starts.
    listening = ("env", "--default-signal=INT")
    command = [*listening, sys.executable, "-c", CRAWL, json.dumps(written(aws, ledger))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        wait_for(lambda: running.poll() is not None or set(outcomes(ledger, 1)) == SCOPES - {(MEMBER, IRELAND)})
        running.send_signal(signal.SIGINT)
        time.sleep(0.2)
        released.set()
        _, said = running.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert runs(ledger) == [("interrupted", "interrupted")]
    assert outcomes(ledger, 1) == dict.fromkeys(SCOPES - {(MEMBER, IRELAND)}, "complete")
    assert (len(ledger.known(Key)), locks(ledger)) == (3, 0)
    aws.calls.clear()
    result = crawled(aws, ledger, resume=True)
    assert (result.run_id, result.status, result.scopes) == (1, RunStatus.COMPLETE, 4)
    assert aws.scopes_asked() == {(MEMBER, IRELAND)}
    assert len(ledger.known(ResourceKey)) == 4


def test_nothing_to_resume_is_one_sentence(aws: Loopback, ledger: Ledger) -> None:
    """A run that ended cannot be resumed, nor one that never was."""
    for said in ("no run to resume", "run 1 has already ended"):
        with pytest.raises(UserError, match=said) as refusal:
            crawled(aws, ledger, resume=True)
        assert refusal.value.exit_code == 2
        crawled(aws, ledger)


def test_a_database_that_refuses_ends_the_crawl_with_a_sentence(aws: Loopback, ledger: Ledger) -> None:
    """What the database says is told once; the run is recorded as failed, with that sentence, and the lock is free."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE INSERT ON scope_coverage WHEN NEW.account_id = '{MEMBER}' "
            "BEGIN SELECT RAISE(ABORT, 'no more rows today'); END"
        )
    with pytest.raises(DatabaseError, match="no more rows today") as refusal:
        crawled(aws, ledger)
    assert "\n" not in refusal.value.message
    assert runs(ledger) == [("failed", refusal.value.message)]
    assert locks(ledger) == 0


def test_text_that_no_database_takes_does_not_end_the_night(aws: Loopback, ledger: Ledger) -> None:
    """Half a surrogate pair or a NUL in a description costs that character, not the crawl."""
    usual = aws.answers["kms:DescribeKey"]

    def odd(call: RecordedCall) -> Result:
        given = usual(call) if callable(usual) else usual
        assert not isinstance(given, BaseException)
        text = "a\ud800b" if account_of(call) == MEMBER else "a\x00b"
        return {"KeyMetadata": {**given["KeyMetadata"], "Description": text}}

    aws.answers["kms:DescribeKey"] = odd
    assert crawled(aws, ledger).exit_code in {0, 3}
    assert len(ledger.known(Key)) == 4
    for row in ledger.known(KeyMetadata):
        assert "\x00" not in row["description"]


def test_a_mistake_of_the_program_leaves_no_run_open(
    aws: Loopback, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong, the run does not read as running for ever, and the next crawl may begin."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("crawler.crawl.resolve_references", broken)
    with pytest.raises(ZeroDivisionError):
        crawled(aws, ledger)
    assert runs(ledger)[0][0] == "failed"
    assert locks(ledger) == 0


def test_no_credentials_leave_a_failed_run(
    aws: Loopback, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A crawl that cannot even begin is recorded with its reason."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with pytest.raises(UserError, match="no AWS credentials") as refusal:
        crawled(aws, ledger)
    assert runs(ledger) == [("failed", refusal.value.message)]
