"""Reports a failed stage of a nightly run: one short message per channel, with the run, the stage, the cause and the fix."""

from __future__ import annotations

import datetime as dt
import json
import logging
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from functools import partial
from typing import Final

import click

from models.console import complain, current_run, say
from models.errors import UserError
from models.settings import MailSettings, Settings
from models.stages import failed_stage
from models.store.engine import opened
from reports.notify import chat, sender, webhook
from reports.notify.delivery_log import DeliveryLog
from reports.notify.message import clean, digest, mailbox, readable
from reports.notify.result import Outcome

NEXT: Final = "`kmsledger nightly --resume` finishes the run when the cause is fixed"
_UNDELIVERED: Final = frozenset({"failed", "rejected", "unknown", "sending"})

log = logging.getLogger(__name__)

Send = Callable[[], Outcome]


@dataclass(frozen=True)
class Failure:
    """What failed. ``message`` is one sentence with cause and fix; ``run_id`` is None if there is no run yet."""

    stage: str
    message: str
    run_id: int | None
    at: dt.datetime
    title: str
    then: str = NEXT

    @property
    def subject(self) -> str:
        """The message in a few words."""
        run = "the run" if self.run_id is None else f"run {self.run_id}"
        return readable(f"{self.title}: {run} failed in the stage {self.stage}")

    @property
    def text(self) -> str:
        """The message as plain text."""
        run = "not created yet" if self.run_id is None else str(self.run_id)
        lines = (
            f"Run: {run}, on {socket.gethostname()}",
            f"Stage: {self.stage}, failed at {self.at:%Y-%m-%d %H:%M} UTC",
            f"Cause and fix: {readable(self.message)}",
            f"Then: {self.then}",
        )
        return "\n".join(lines) + "\n"


@contextmanager
def reported(settings: Settings) -> Iterator[None]:
    """Report an error that leaves the block to everyone who gets the report of the organization, and raise it again.

    An interruption is not reported, and neither is a run that another one excludes: who caused them knows.
    """
    try:
        yield
    except UserError as error:
        if error.is_reported:
            _report(settings, error, error.message)
        raise
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        _report(
            settings,
            error,
            f"unexpected {type(error).__name__}: {error}; report the output of the command with --debug",
        )
        raise


def report_undelivered(settings: Settings, run_id: int) -> None:
    """Report to webhooks and chats that recipients did not get the report of a run."""
    with opened(settings.database, must_exist=True) as engine:
        entries = DeliveryLog(engine, run_id, "overview").entries()
    missing = sorted(name for name, entry in entries.items() if entry.status in _UNDELIVERED)
    if not missing:
        return
    details = "; ".join(f"{name}: {entries[name].detail or entries[name].status}" for name in missing[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    failure = Failure(
        "delivery",
        f"{len(missing)} of {len(entries)} recipients did not get the report ({details}{more})",
        run_id,
        dt.datetime.now(dt.UTC),
        settings.report.title,
        "`kmsledger mail` sends it to those who have not got it",
    )
    _deliver(settings, failure, exclude={*missing, *(settings.mail.recipients if settings.mail else ())})


def _report(settings: Settings, error: BaseException, message: str) -> None:
    stage = failed_stage(error) or "start"
    _deliver(settings, Failure(stage, message, current_run(), dt.datetime.now(dt.UTC), settings.report.title))


def _deliver(settings: Settings, failure: Failure, exclude: Collection[str] = ()) -> None:
    """Deliver to each recipient, once per run and stage. Never raises: the failure itself matters more."""
    try:
        with ExitStack() as stack:
            entries = None
            if failure.run_id is not None:
                engine = stack.enter_context(opened(settings.database))
                entries = DeliveryLog(engine, failure.run_id, f"failure-{failure.stage}")
            for recipient, send in _channels(settings, failure):
                if recipient not in exclude and _claimed(entries, recipient):
                    _record(entries, send())
    except Exception as error:  # noqa: BLE001 - of reporting; the error of the run is raised
        complain(f"the failure could not be reported: {type(error).__name__}: {error}")


def _claimed(entries: DeliveryLog | None, recipient: str) -> bool:
    """Claim a recipient in the delivery log; a ledger that cannot be written, such as a full disk, is what has to be reported."""
    try:
        return entries is None or entries.claim(recipient)
    except UserError as error:
        log.warning("the delivery log cannot be written, so the failure may be reported again: %s", error.message)
        return True


def _record(entries: DeliveryLog | None, outcome: Outcome) -> None:
    if outcome.status == "sent":
        say(f"failure reported to {outcome.recipient}")
    else:
        complain(f"the failure could not be reported to {outcome.recipient}: {outcome.detail}")
    try:
        if entries is not None:
            entries.record(outcome)
    except UserError as error:
        log.warning("the delivery log cannot be written: %s", error.message)


def _channels(settings: Settings, failure: Failure) -> Iterator[tuple[str, Send]]:
    if settings.mail is not None:
        for recipient in settings.mail.recipients:
            yield recipient, partial(_mail, settings, settings.mail, failure, recipient)
    for hook in settings.webhooks:
        name = f"webhook:{hook.name}"
        yield name, partial(webhook.send, hook, *_event(failure, name), name)
    for room in settings.chat:
        name = f"chat:{room.name}"
        yield name, partial(chat.post, room, failure.subject, failure.text, name)


def _mail(settings: Settings, mail: MailSettings, failure: Failure, recipient: str) -> Outcome:
    def make(to: str, _limit: int) -> EmailMessage:
        return compose(failure, mail, to)

    outcomes: list[Outcome] = []
    try:
        if mail.ses is not None:
            from reports.notify import ses  # loads boto3

            ses.send([recipient], make, (mail, settings.aws), outcomes.append, lambda _: True)
        else:
            sender.send([recipient], make, mail, outcomes.append)
    except UserError as error:
        return outcomes[0] if outcomes else Outcome(recipient, "failed", error.message)
    return outcomes[0]


def compose(failure: Failure, mail: MailSettings, recipient: str) -> EmailMessage:
    """The mail about a failure, as plain text."""
    from_address, to = mailbox(mail.sender), mailbox(recipient)
    message = EmailMessage(policy=SMTP)
    message["Subject"] = clean(f"[kmsledger] {failure.subject}")
    message["From"] = from_address
    message["To"] = to
    message["Date"] = format_datetime(failure.at)
    message["Message-ID"] = f"<kmsledger.{_digest(failure, to.addr_spec)}@{from_address.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(failure.text, cte="quoted-printable")
    return message


def _event(failure: Failure, recipient: str) -> tuple[bytes, str]:
    """The body of the webhook's event, and its ID."""
    at = failure.at.isoformat()
    data = {
        "title": failure.title,
        "run_id": failure.run_id,
        "stage": failure.stage,
        "message": failure.message,
        "then": failure.then,
        "host": socket.gethostname(),
    }
    body = json.dumps({"type": "kmsledger.failure", "timestamp": at, "data": data}).encode()
    return body, f"kmsledger-{_digest(failure, recipient)}"


def _digest(failure: Failure, recipient: str) -> str:
    return digest(failure.stage, str(failure.run_id), recipient, failure.at.isoformat())
