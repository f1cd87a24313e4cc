"""What follows a crawl, unattended: findings counted against the threshold, reports written, mail sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

import click
from sqlalchemy import Engine

from models.errors import UserError
from models.settings import MailSettings, Settings
from models.store.engine import connect as connect_ledger
from reports.html.registry import REPORTS, find, write
from reports.html.summary import summary
from reports.mart import as_of_connection
from reports.mart.connection import connect
from reports.notify import delivery_log, sender
from reports.notify.message import Attachment, Summary, compose
from reports.notify.result import DeliveryError, Outcome
from reports.rules import findings

MAILED = "overview"
"""The report that goes with the mail."""

DONE, FINDINGS, PARTIAL, FAILED = 0, 1, 3, 4

log = logging.getLogger(__name__)


class NoMailError(UserError):
    """Mail was asked for, and the settings name no server."""

    exit_code = 2


def publish(settings: Settings, run_id: int, *, crawl_exit: int) -> int:
    """Write the reports of the mart's run and mail them; the exit code of the whole night.

    The worst of it counts: a failed delivery (4) before gaps (3) before findings at or above ``rules.fail_on`` (1). Mail that
    fails leaves crawl and reports as they are; `kmsledger mail` sends what is missing later.
    """
    written = write(REPORTS, settings.report.mart, settings.report.directory, settings)
    for path in written:
        click.echo(f"report: {path}")
    failed = False
    if settings.mail is not None:
        try:
            failed = not deliver(settings, run_id, written)
        except DeliveryError as error:
            click.echo(f"kmsledger: {error.message}", err=True)
            failed = True
    if failed:
        return FAILED
    if crawl_exit == PARTIAL:
        return PARTIAL
    return FINDINGS if failing(settings) else DONE


def send_missing(settings: Settings) -> bool:
    """Write the report of the mart's run and mail it to everyone who has not had it; whether nobody was left out."""
    written = write([find(MAILED)], settings.report.mart, settings.report.directory, settings)
    with connect(settings.report.mart) as mart:
        row = mart.execute("SELECT max(run_id) FROM runs").fetchone()
    if row is None or row[0] is None:
        raise NoMailError("there is no run to report: run `kmsledger crawl` first")
    return deliver(settings, int(row[0]), written)


def failing(settings: Settings, fail_on: str | None = None, as_of: str | None = None) -> int:
    """The number of failed findings at or above a severity, by default ``rules.fail_on``; waived ones do not count."""
    mart = connect(settings.report.mart) if as_of is None else as_of_connection.connect(settings.report.mart, as_of)[0]
    with mart:
        return findings.failing(mart, fail_on or settings.rules.fail_on)


def deliver(settings: Settings, run_id: int, written: Sequence[Path]) -> bool:
    """Mail the report to everyone who has not had it; whether nobody was left out.

    Raises DeliveryError when the server cannot be used at all; each recipient's outcome is in the books either way.
    """
    if settings.mail is None:
        raise NoMailError("there is no mail server in the settings: add the section `mail`")
    engine = connect_ledger(settings.database, must_exist=True)
    try:
        waiting = delivery_log.due(engine, run_id, MAILED, settings.mail.recipients)
        if not waiting:
            click.echo(f"mail: everyone has had the report of run {run_id}")
            return True
        with connect(settings.report.mart) as mart:
            about = summary(mart, settings)
        messages = _messages(about, settings.mail, waiting, written)
        outcomes = sender.send(messages, settings.mail, lambda outcome: _enter(engine, run_id, outcome))
    finally:
        engine.dispose()
    for outcome in outcomes:
        if outcome.status != "sent":
            click.echo(f"kmsledger: mail to {outcome.recipient} {outcome.status}: {outcome.detail}", err=True)
    return all(outcome.status == "sent" for outcome in outcomes)


def _messages(
    about: Summary, mail: MailSettings, recipients: Sequence[str], written: Sequence[Path]
) -> list[tuple[str, EmailMessage]]:
    attachments: tuple[Attachment, ...] = ()
    report = next((path for path in written if path.name == f"kmsledger-{MAILED}-run{about.run_id}.html"), None)
    if report is not None and mail.attach_report:
        attachments = (Attachment(report.name, "text/html", report.read_bytes(), str(report)),)
    return [(one, compose(about, mail, recipient=one, attachments=attachments)) for one in recipients]


def _enter(engine: Engine, run_id: int, outcome: Outcome) -> None:
    delivery_log.enter(engine, run_id, MAILED, outcome)
    if outcome.status == "sent":
        click.echo(f"mail: sent to {outcome.recipient}")
