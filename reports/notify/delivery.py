"""Delivers the report of a run through every channel in the settings: who gets it, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from typing import Final

from models.console import complain, say
from models.errors import UserError
from models.settings import MailSettings, Settings
from models.settings.delivery import ChatSettings, WebhookSettings
from models.store.engine import opened
from reports.notify import chat, sender, webhook
from reports.notify.delivery_log import RETRIED, DeliveryLog, Entry
from reports.notify.message import ATTACHMENT_LIMIT, Attachment, Summary, compose
from reports.notify.result import DeliveryError, Outcome

_COMPLETED: Final = frozenset({"sent", "skipped"})
_STATES: Final = {
    "sent": "it was sent",
    "skipped": "it was not sent",
    "rejected": "it was rejected",
    "unknown": "it may have arrived",
    "sending": "it may have arrived: its delivery was interrupted, or another process delivers it now",
}
_NO_RETRY: Final = "it is not sent again without --resend"

OnOutcome = Callable[[Outcome], None]
Claim = Callable[[str], bool]


class NoRecipientError(UserError):
    """The settings have no recipient, or not the requested one."""

    exit_code = 2


@dataclass(frozen=True)
class Request:
    """What a user asks for: the recipients (empty: all in the settings), whether to send again, whether to list only."""

    only: frozenset[str] = frozenset()
    resend: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Channel:
    """A way to deliver. `recipients` are the names in the delivery log; `describe` says what a recipient gets.

    `send` delivers to each recipient that the claim accepts, and reports its outcome. It raises DeliveryError if nothing could
    be delivered.
    """

    recipients: tuple[str, ...]
    only_changes: bool
    describe: Callable[[str], str]
    send: Callable[[Sequence[str], OnOutcome, Claim], object]


def deliver(content: Summary, settings: Settings, attachments: tuple[Attachment, ...], request: Request) -> bool:
    """Deliver the report to everyone who has not got it; returns whether everyone has got it now.

    Prints a line for each recipient. The delivery log has the outcome of each. Raises NoRecipientError and ChatError before
    anything is sent.
    """
    check(settings, request)
    channels = _channels(settings, content, attachments, resend=request.resend)
    with opened(settings.database, must_exist=True) as engine:
        log = DeliveryLog(engine, content.run_id, content.report)
        entries = log.entries()
        before = {} if content.unchanged_since is None else log.entries(content.unchanged_since)
        complete = True
        for channel in channels:
            pending = []
            for recipient in channel.recipients:
                if request.only and recipient not in request.only:
                    continue
                entry = None if request.resend else entries.get(recipient)
                if entry is not None and entry.status != RETRIED:
                    complete &= _settled(recipient, entry)
                elif channel.only_changes and not request.resend and _got(before, recipient):
                    outcome = Outcome(recipient, "skipped", f"nothing changed since run {content.unchanged_since}")
                    if not request.dry_run and log.claim(recipient):
                        log.record(outcome)
                    say(f"delivery: {recipient}: {outcome.detail}, so it is not sent")
                elif request.dry_run:
                    say(f"delivery: {recipient} gets {channel.describe(recipient)}")
                else:
                    pending.append(recipient)
            complete &= _send(channel, pending, log, resend=request.resend)
    return complete


def recipients(settings: Settings) -> tuple[str, ...]:
    """Everyone in the settings who gets the report, as the delivery log names them."""
    mail: tuple[str, ...] = ()
    if settings.mail is not None:
        mail = (*settings.mail.recipients, *(to for route in settings.mail.routes for to in route.recipients))
    return (*mail, *map(_webhook_name, settings.webhooks), *map(_chat_name, settings.chat))


def check(settings: Settings, request: Request) -> None:
    """Raise NoRecipientError or ChatError if the delivery cannot be made with these settings."""
    known = recipients(settings)
    if not known:
        raise NoRecipientError(
            "the settings name nobody who gets the report: add the section `mail`, `webhooks` or `chat`"
        )
    unknown = sorted(set(request.only).difference(known))
    if unknown:
        raise NoRecipientError(f"{unknown[0]} is no recipient in the settings: choose from {', '.join(known)}")
    chat.check(settings.chat)


def _webhook_name(hook: WebhookSettings) -> str:
    return f"webhook:{hook.name}"


def _chat_name(room: ChatSettings) -> str:
    return f"chat:{room.name}"


def _channels(
    settings: Settings, content: Summary, attachments: tuple[Attachment, ...], *, resend: bool
) -> list[Channel]:
    channels = [] if settings.mail is None else [_mail(settings.mail, settings, content, attachments, resend=resend)]
    for hook in settings.webhooks:
        deliver_event = partial(webhook.post, hook, content, resend=resend)
        channels.append(_receiver(_webhook_name(hook), hook.only_changes, "a signed event", deliver_event))
    for room in settings.chat:
        send_text = partial(chat.post, room, chat.title(content), chat.text(content))
        channels.append(_receiver(_chat_name(room), room.only_changes, f"“{chat.title(content)}”", send_text))
    return channels


def _receiver(recipient: str, only_changes: bool, what: str, post: Callable[[str], Outcome]) -> Channel:
    """A channel with one recipient."""

    def send(recipients: Sequence[str], on_outcome: OnOutcome, claim: Claim) -> None:
        for name in filter(claim, recipients):
            on_outcome(post(name))

    return Channel((recipient,), only_changes, lambda _: what, send)


def _mail(
    mail: MailSettings, settings: Settings, content: Summary, attachments: tuple[Attachment, ...], *, resend: bool
) -> Channel:
    def make(recipient: str, limit: int = ATTACHMENT_LIMIT) -> EmailMessage:
        return compose(content, mail, recipient=recipient, attachments=attachments, limit=limit, resend=resend)

    def describe(recipient: str) -> str:
        message = make(recipient)
        files = [f"{part.get_filename()} ({len(part.as_bytes()) / 1e6:.1f} MB)" for part in message.iter_attachments()]
        return f"“{message['Subject']}” with {' and '.join(files) or 'no attachment'}"

    def send(recipients: Sequence[str], on_outcome: OnOutcome, claim: Claim) -> None:
        if mail.ses is not None:
            from reports.notify import ses  # loads boto3

            ses.send(recipients, make, (mail, settings.aws), on_outcome, claim)
        else:
            sender.send(recipients, make, mail, on_outcome, claim)

    return Channel(mail.recipients, mail.only_changes, describe, send)


def _got(entries: Mapping[str, Entry], recipient: str) -> bool:
    return recipient in entries and entries[recipient].status in _COMPLETED


def _settled(recipient: str, entry: Entry) -> bool:
    """Print what became of an earlier delivery; returns whether it is complete."""
    complete = entry.status in _COMPLETED
    detail = f", {entry.detail}" if entry.detail and entry.status != "sent" else ""
    state = f"{_STATES[entry.status]} ({entry.at:%Y-%m-%d %H:%M} UTC{detail})"
    if complete:
        say(f"delivery: {recipient}: {state}")
    else:
        complain(f"delivery to {recipient}: {state}; {_NO_RETRY}")
    return complete


def _send(channel: Channel, recipients: Sequence[str], log: DeliveryLog, *, resend: bool) -> bool:
    """Deliver to the recipients; returns whether all of them got the report."""
    outcomes: list[Outcome] = []
    claimed: set[str] = set()

    def on_outcome(outcome: Outcome) -> None:
        # Recipients that fail without a claim, because the connection does, may have been served by another process.
        if outcome.recipient in claimed or log.claim(outcome.recipient):
            log.record(outcome)
        outcomes.append(outcome)
        if outcome.status == "sent":
            say(f"delivery: sent to {outcome.recipient}")

    def claim(recipient: str) -> bool:
        if log.claim(recipient, resend=resend):
            claimed.add(recipient)
            return True
        complain(f"another process delivers the report to {recipient}")
        return False

    failure = ""
    try:
        channel.send(recipients, on_outcome, claim)
    except DeliveryError as error:
        failure = error.message
        complain(f"{failure}")
    for outcome in outcomes:
        if outcome.status != "sent" and outcome.detail != failure:
            complain(f"delivery to {outcome.recipient} {outcome.status}: {outcome.detail}")
    return sum(outcome.status == "sent" for outcome in outcomes) == len(recipients)


def routed(settings: Settings, recipients: tuple[str, ...]) -> Settings:
    """The settings of a delivery to the recipients of a route, and to nobody else."""
    if settings.mail is None:
        return settings
    mail = settings.mail.model_copy(update={"recipients": recipients, "routes": ()})
    return settings.model_copy(update={"mail": mail, "webhooks": (), "chat": ()})
