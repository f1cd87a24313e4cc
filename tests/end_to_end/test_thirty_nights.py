"""Thirty nightly runs of a changing organization with faults: right exit codes, true reports, nothing lost or sent twice."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Denial, Faults
from crawler.aws import client
from demo import certificates
from demo.smtp import MailServer
from tests.end_to_end import night_process
from tests.end_to_end.conftest import Installation
from tests.end_to_end.night_process import Ended, Night
from tests.end_to_end.organization_truth import Conditions, Expected, Knowledge
from tests.end_to_end.small_installation import install, small_organization

TO = "nights@thirty.example"
REGIONS = ("us-east-1", "eu-west-1")
HOME, FIRST, SECOND, THIRD, FOURTH = range(5)
"""The accounts by position."""
DONE, PARTIAL, FAILED, LOCKED = 0, 3, 4, 2
BY_TRUTH = -100
"""0 if everything could be read, 3 otherwise: some keys deny the crawler."""
DISK_BYTES = 600_000_000


@dataclass
class Line:
    """A row of the table: what happened, and what was checked."""

    night: int
    event: str
    expected: str
    actual: str
    checked: list[str]


@dataclass
class Nights:
    """The installation, the organization, and what is known about both."""

    aws: FakeAws
    installation: Installation
    knowledge: Knowledge
    table: list[Line] = field(default_factory=list)
    sent: int = 0
    """Mails that have been checked."""
    last_run: int = 0
    day: int = 0

    def account(self, number: int) -> str:
        """The ID of an account by its position."""
        return self.aws.world.accounts[number].id

    def mails(self) -> list[email.message.EmailMessage]:
        """The mails since the last call."""
        received = [message for message in self.installation.mail.messages if message.recipients == (TO,)]
        new, self.sent = received[self.sent :], len(received)
        return [email.message_from_bytes(message.content, policy=email.policy.default) for message in new]

    def begin(
        self, faults: Faults | None = None, *, absent: tuple[int, ...] = (), suspended: tuple[int, ...] = ()
    ) -> None:
        """The next day of the organization, with faults; accounts by position."""
        self.day += 1
        self.aws.control.set_day(self.day)
        ids = [tuple(map(self.account, numbers)) for numbers in (absent, suspended)]
        self.aws.control.faults(
            Faults.from_json({**(faults or Faults()).to_json(), "absent": ids[0], "suspended": ids[1]})
        )

    def check(
        self, event: str, expected: list[int], ended: list[Ended], conditions: Conditions | None, *more: str
    ) -> None:
        """Compare the exit codes of the night's commands, its mart and its mails with the truth; None if no mart is made."""
        truth = None if conditions is None else self.knowledge.learn(self.day, conditions)
        is_complete = truth is not None and not sum(truth.coverage[1:])
        expected = [(DONE if is_complete else PARTIAL) if code == BY_TRUTH else code for code in expected]
        codes = [one.code for one in ended]
        detail = "\n".join(one.errors for one in ended)
        assert codes == expected, (event, detail)
        assert "Traceback" not in detail
        checked = ["exit code", *more]
        if truth is not None:
            self.last_run += 1
            self._check_mart(event, truth, self.last_run)
            checked += ["keys", "findings", "coverage", "status"]
            self._check_mail(event, truth, self.last_run)
            checked += ["report", "mail once"]
        self._check_state()
        words = [" ".join(map(str, each)) for each in (expected, codes)]
        self.table.append(Line(len(self.table) + 1, event, words[0], words[1], checked))

    def _check_mart(self, event: str, truth: Expected, run_id: int) -> None:
        with duckdb.connect(str(self.installation.directory / "kmsledger.duckdb"), read_only=True) as mart:
            keys = {arn for (arn,) in mart.execute("SELECT key_arn FROM keys").fetchall()}
            rows = mart.execute("SELECT resource_arn, status FROM findings WHERE rule_id = 'key-rotation'").fetchall()
            coverage = mart.execute(
                "SELECT complete, partial, failed FROM run_coverage WHERE run_id = ?", [run_id]
            ).fetchone()
            status = mart.execute("SELECT status FROM runs WHERE run_id = ?", [run_id]).fetchone()
            gaps = mart.execute(
                "SELECT account_id, region, outcome, actions, causes FROM incomplete_account_regions"
            ).fetchall()
        assert keys == truth.keys, event
        problems = {arn: result for arn, result in rows if result in {"fail", "unknown"}}
        failing = {arn for arn, result in problems.items() if result == "fail"}
        assert truth.failing <= failing, event
        assert failing - truth.failing <= truth.remembered, event  # nothing else fails, except what is remembered
        assert truth.remembered <= problems.keys(), event
        assert coverage == truth.coverage, f"{event}: {gaps}"
        assert status == ("partial" if sum(truth.coverage[1:]) else "complete",), event

    def _check_mail(self, event: str, truth: Expected, run_id: int) -> None:
        reports = [mail for mail in self.mails() if "failed in the stage" not in mail["Subject"]]
        assert len(reports) == 1, event
        (attached,) = reports[0].iter_attachments()
        name = f"kmsledger-overview-run{run_id}.html"
        assert attached.get_filename() == name
        assert attached.get_content() == (self.installation.directory / "reports" / name).read_text(encoding="utf-8")
        body = reports[0].get_body(("plain",))
        assert body is not None
        text = " ".join(body.get_content().split())
        complete = not sum(truth.coverage[1:])
        assert ("Complete: every account and region in scope was read." in text) == complete, event
        assert ("Incomplete coverage" in text) != complete, event

    def _check_state(self) -> None:
        """No lock is left, and only the run that failed or was interrupted last is unfinished."""
        for query in (
            "SELECT count(*) FROM crawl_lock",
            "SELECT count(*) FROM run WHERE status = 'running'",
            "SELECT count(*) FROM delivery WHERE status = 'sending'",
        ):
            assert _number(self.installation, query) == 0, query

    def failure_mail(self, stage: str) -> str:
        """The text of the only new mail, which reports a failed stage."""
        (mail,) = self.mails()
        assert f"failed in the stage {stage}" in mail["Subject"]
        assert not list(mail.iter_attachments())
        text: str = mail.get_content()
        assert "Cause and fix: " in text
        return text

    def run(self, *arguments: str) -> Ended:
        """Run a command in this process, which has loaded everything."""
        done = self.installation.run(*(arguments or ("nightly",)))
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A small file system of its own, or a plain directory where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield path, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.soak
def test_thirty_nights(
    mail: MailServer,
    tls: certificates.Certificates,
    disk: tuple[Path, bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each night ends with the right exit code and a true report; no gap closes a fact or resolves a finding."""
    # Shorter retry delays; their length is not tested here.
    monkeypatch.setattr(client, "BASE_DELAY", 0.01)
    monkeypatch.setattr(client, "MAXIMUM_DELAY", 0.1)
    parameters = small_organization(
        accounts=5,
        regions=REGIONS,
        opt_in=(),
        adversarial=False,
        keys_per_account_region=2,
        resources=0.0,
        change_rate=0.2,
    )
    started = time.process_time()
    with FakeAws(parameters, process=True) as aws:
        crawl = {
            "resource_types": ["AWS::SecretsManager::Secret"],
            "last_use": {"enabled": False},
            "max_attempts": 8,
            "retry_budget_percent": 1000,
            "empty_region_rescan_days": 0,
        }
        values: dict[str, Any] = {"crawl": crawl, "report": {"list_limit": 50}}
        installation = install(disk[0] / "installation", aws, mail, tls, [TO], **values)
        nights = Nights(aws, installation, Knowledge(aws.world, REGIONS))
        _denials(nights)
        _accounts(nights)
        _throttling(nights)
        _network(nights)
        _disk(nights, mounted=disk[1])
        _mail_server(nights, mail.port)
        _clock(nights)
        _interruptions(nights)
        _together(nights)
    with capsys.disabled():
        print(f"\n{_rendered(nights.table)}\n{time.process_time() - started:.0f} s CPU in this process")  # noqa: T201
    assert len(nights.table) == 30
    assert all(line.expected == line.actual for line in nights.table)


def _denials(nights: Nights) -> None:
    first, second = nights.account(FIRST), nights.account(SECOND)
    keys = Denial(operation="kms:ListKeys", account=first, region="us-east-1")
    grants = Denial(operation="kms:ListGrants", account=second)
    unread, partly = frozenset({(first, "us-east-1")}), frozenset((second, region) for region in REGIONS)
    calm = partial(Conditions, absent=frozenset({nights.account(FOURTH)}))
    for event, faults, code, conditions in (
        ("first night", Faults(), BY_TRUTH, calm()),
        ("10-20 % of the keys change", Faults(), BY_TRUTH, calm()),
        ("kms:ListKeys denied in one region", Faults(denials=(keys,)), PARTIAL, calm(unread=unread)),
        (
            "and kms:ListGrants in an account",
            Faults(denials=(keys, grants)),
            PARTIAL,
            calm(unread=unread, partial=partly),
        ),
        ("the first denial is gone", Faults(denials=(grants,)), PARTIAL, calm(partial=partly)),
        ("no denial is left", Faults(), BY_TRUTH, calm()),
    ):
        nights.begin(faults, absent=(FOURTH,))
        nights.check(event, [code], [nights.run()], conditions)


def _accounts(nights: Nights) -> None:
    first, third = nights.account(FIRST), nights.account(THIRD)
    nights.begin()
    nights.check("an account joins", [BY_TRUTH], [nights.run()], Conditions())
    nights.begin(Faults(role_gone_after={first: 0}))
    nights.check(
        "a role vanishes", [PARTIAL], [nights.run()], Conditions(refused=frozenset({first})), "failed account weighs 2"
    )
    nights.begin()
    nights.check("the role is back", [BY_TRUTH], [nights.run()], Conditions())
    nights.begin(suspended=(THIRD,))
    nights.check("an account is suspended", [BY_TRUTH], [nights.run()], Conditions(suspended=frozenset({third})))
    nights.begin(absent=(THIRD,))
    nights.check("it leaves", [BY_TRUTH], [nights.run()], Conditions(absent=frozenset({third})))
    nights.begin()
    nights.check("it joins again", [BY_TRUTH], [nights.run()], Conditions())


def _throttling(nights: Nights) -> None:
    first = nights.account(FIRST)
    nights.begin(Faults(seed=3, throttle=0.2, error=0.05, reset=0.02))
    nights.check("a storm that retries survive", [BY_TRUTH], [nights.run()], Conditions(), "no further gap")
    listings = tuple(f"kms:{name}" for name in ("ListKeys",))
    nights.begin(Faults(throttle=1.0, accounts=(first,), only=listings))
    unread = frozenset((first, region) for region in REGIONS)
    nights.check("a storm that they do not, in an account", [PARTIAL], [nights.run()], Conditions(unread=unread))
    nights.begin()
    nights.check("the storm is over", [BY_TRUTH], [nights.run()], Conditions())


def _network(nights: Nights) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
    nights.begin()
    nights.installation.change(aws={"endpoint_url": dead, "connect_timeout": 1}, crawl={"max_attempts": 1})
    failed = nights.run()
    text = nights.failure_mail("crawl")
    assert f"Run: {nights.last_run + 1}," in text
    nights.last_run += 1
    nights.installation.change(aws={"endpoint_url": nights.aws.url, "connect_timeout": 5}, crawl={"max_attempts": 8})
    nights.check("no network", [FAILED], [failed], None, "failure mail")
    nights.begin()
    nights.check("the network is back", [BY_TRUTH], [nights.run()], Conditions())


def _disk(nights: Nights, *, mounted: bool) -> None:
    nights.begin()
    filler = nights.installation.directory / "filler"
    if mounted:
        free = shutil.disk_usage(nights.installation.directory).free
        filler.write_bytes(b"\0" * (free - 150_000))
        failed, kind = night_process.run(nights.installation, "nightly"), "tmpfs"
    else:
        failed, kind = (
            night_process.run(nights.installation, "nightly", before=night_process.limit_file_size),
            "RLIMIT_FSIZE",
        )
    assert "disk" in failed.errors
    failures = nights.mails()
    assert len(failures) == 1
    assert "failed in the stage" in failures[0]["Subject"]
    filler.unlink(missing_ok=True)
    resumed = nights.run("nightly", "--resume")
    nights.check(
        f"the disk is full ({kind}); resumed", [FAILED, BY_TRUTH], [failed, resumed], Conditions(), "failure mail"
    )


def _mail_server(nights: Nights, port: int) -> None:
    for event in ("the mail server is down", "it is down again"):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            nights.installation.change(mail={"port": taken.getsockname()[1]})
        nights.begin()
        failed = nights.run()
        nights.installation.change(mail={"port": port})
        assert "refuses the connection" in failed.errors
        sent, again = nights.run("mail"), nights.run("mail")
        nights.check(f"{event}; mail", [FAILED, DONE, DONE], [failed, sent, again], Conditions(), "sent later")


def _clock(nights: Nights) -> None:
    nights.begin()
    ended = night_process.run(nights.installation, "nightly", before=night_process.set_clock_back)
    nights.check("the clock is set back a day", [BY_TRUTH], [ended], Conditions())
    nights.begin()
    nights.check("the clock is right again", [BY_TRUTH], [nights.run()], Conditions())


def _interruptions(nights: Nights) -> None:
    saved = partial(_scopes, nights.installation)
    slow = Faults(latency_ms=150)
    for event, number, reached, faults in (
        ("SIGTERM in the crawl", signal.SIGTERM, lambda _, before: saved() > before, slow),
        (
            "SIGTERM in the mart",
            signal.SIGTERM,
            lambda night, _: "stage access took" in night.errors.read_text(),
            Faults(),
        ),
        ("kill -9 in the crawl", signal.SIGKILL, lambda _, before: saved() > before, slow),
        (
            "kill -9 in the reports",
            signal.SIGKILL,
            lambda night, _: "stage mart took" in night.errors.read_text(),
            Faults(),
        ),
    ):
        nights.begin(faults)
        before = saved()
        night = night_process.start(nights.installation, "nightly")
        assert night.wait_until(partial(_reached, reached, night, before)), event
        sent_at = time.monotonic()
        night.send(number)
        stopped = night.wait()
        assert time.monotonic() - sent_at < 10, event
        if number == signal.SIGTERM:
            assert "`kmsledger nightly --resume`" in stopped.errors
        assert nights.mails() == []
        resumed = nights.run("nightly", "--resume")
        code = FAILED if number == signal.SIGTERM else -signal.SIGKILL
        nights.check(f"{event}; resumed", [code, BY_TRUTH], [stopped, resumed], Conditions(), "ended within 10 s")


def _reached(reached: Callable[[Night, int], bool], night: Night, before: int) -> bool:
    return reached(night, before)


def _scopes(installation: Installation) -> int:
    return _number(installation, "SELECT count(*) FROM scope_coverage")


def _number(installation: Installation, query: str) -> int:
    """The result of a query on the ledger; retried, because another process may be deleting the write-ahead log."""
    for remaining in reversed(range(20)):
        try:
            # Closed at once: an open connection would lose its locks to the other copy of SQLite in this process.
            with contextlib.closing(sqlite3.connect(installation.directory / "ledger.db")) as ledger:
                return int(ledger.execute(query).fetchone()[0] or 0)
        except sqlite3.OperationalError:
            if not remaining:
                raise
            time.sleep(0.05)
    raise AssertionError("the last attempt returns or raises")


def _together(nights: Nights) -> None:
    nights.begin(Faults(latency_ms=100))
    night = night_process.start(nights.installation, "nightly")
    runs = nights.last_run + 1
    assert night.wait_until(lambda: _runs(nights.installation) == runs)
    second = nights.run()
    assert f"run {runs} has been crawling into this database" in second.errors
    first = night.wait()
    nights.check("two nightly runs at once", [BY_TRUTH, LOCKED], [first, second], Conditions(), "one run")
    nights.begin()
    night = night_process.start(nights.installation, "nightly")
    assert night.wait_until(lambda: "stage access took" in night.errors.read_text())
    mart = nights.run("mart")
    assert f"the results of run {nights.last_run + 1} have been computed by another process" in mart.errors
    nights.check("mart during a nightly run", [BY_TRUTH, LOCKED], [night.wait(), mart], Conditions(), "one mart")
    first_id, second_id = nights.account(FIRST), nights.account(SECOND)
    everything = Faults(
        seed=5,
        throttle=0.1,
        denials=(Denial(operation="kms:ListKeys", account=second_id, region="eu-west-1"),),
        role_gone_after={first_id: 0},
    )
    conditions = Conditions(
        refused=frozenset({first_id}),
        unread=frozenset({(second_id, "eu-west-1")}),
        suspended=frozenset({nights.account(THIRD)}),
    )
    nights.begin(everything, suspended=(THIRD,))
    nights.check("denial, lost role, storm, suspension", [PARTIAL], [nights.run()], conditions)
    nights.begin()
    nights.check("all faults are over", [BY_TRUTH], [nights.run()], Conditions())


def _runs(installation: Installation) -> int:
    return _number(installation, "SELECT max(run_id) FROM run")


def _rendered(table: list[Line]) -> str:
    lines = [("night", "what happened", "expected", "actual", "checked")]
    lines += [(str(row.night), row.event, row.expected, row.actual, ", ".join(row.checked)) for row in table]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
