"""Sends mails through one SMTP connection and reports the outcome for every recipient.

The sender keeps no log and does not retry: it reports each outcome immediately, so that the caller can commit it before the
next mail is sent.
"""

import contextlib
import re
import smtplib
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from models.settings import MailSettings
from reports.notify.batch import Batch
from reports.notify.message import ATTACHMENT_LIMIT, Compose, clean, mailbox
from reports.notify.result import DeliveryError, Outcome
from reports.notify.smtp_connection import cause, quote, server_name, session

_CHUNK: Final = 65_536
_NOTES: Final = 4096
"""Room for the notes about attachments, in bytes."""
_TOO_LARGE: Final = "too large for the server"
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


def send(
    recipients: Sequence[str],
    compose: Compose,
    settings: MailSettings,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    claim: Callable[[str], bool] = lambda _: True,
) -> list[Outcome]:
    """Send each recipient a mail over one connection; returns one outcome each, in the same order.

    `claim` is called directly before a mail is sent; a recipient that it refuses is left out. `on_outcome` is called exactly
    once for each other recipient, as soon as its outcome is known, even if this function raises; an exception of either stops
    the delivery. Raises DeliveryError if the session fails (connection, TLS, login, sender), if the connection is lost, or if no
    mail was accepted. A rejected recipient is an outcome, not an error, if other mails were accepted. A mail that is too large
    for the server is sent without its attachments. Without recipients, no connection is opened.
    """
    if not recipients:
        return []
    batch = Batch(recipients, on_outcome)
    try:
        with session(settings) as smtp:
            batch.run(lambda recipient: _deliver(smtp, recipient, compose, settings), claim)
    except _LostError as error:
        batch.record(error.outcome)
        sent = sum(outcome.status == "sent" for outcome in batch.outcomes)
        unknown = "" if error.outcome.status == "failed" else f", the mail to {error.outcome.recipient} is unknown"
        batch.fail(
            f"{server_name(settings)} was lost after {sent} of {len(recipients)} mails were sent{unknown} "
            f"({error.cause}): run the delivery again to send the missing mails."
        )
    except DeliveryError as error:
        batch.fail(error.message)
    if batch.none_accepted:
        batch.fail(_none_accepted(batch.outcomes, settings))
    return batch.outcomes


class _LostError(Exception):
    """The connection broke during a mail; has the outcome of that mail."""

    def __init__(self, outcome: Outcome, cause: str) -> None:
        super().__init__(cause)
        self.outcome = outcome
        self.cause = cause


def _deliver(smtp: smtplib.SMTP, recipient: str, compose: Compose, settings: MailSettings) -> Outcome:
    """Send one mail; if it is too large for the server, again with the attachments for which the server has room."""
    message = compose(recipient, ATTACHMENT_LIMIT)
    outcome = _transfer(smtp, recipient, message, settings)
    if outcome.detail.startswith(_TOO_LARGE) and any(message.iter_attachments()):
        message = compose(recipient, 0)
        room = _size_limit(smtp) - len(message.as_bytes()) - _NOTES
        if room > 0:
            message = compose(recipient, room)
        outcome = _transfer(smtp, recipient, message, settings)
    return outcome


def _transfer(smtp: smtplib.SMTP, recipient: str, message: EmailMessage, settings: MailSettings) -> Outcome:
    """Run one transaction: MAIL, RCPT, DATA.

    Raises _LostError if the connection breaks, and DeliveryError if the sender is rejected, which affects all mails.
    """
    try:
        sender, address, options, content = _envelope(smtp, recipient, message, settings)
    except (ValueError, smtplib.SMTPNotSupportedError) as error:
        return Outcome(recipient, "rejected", clean(str(error)))
    limit = _size_limit(smtp)
    if 0 < limit < len(content):
        return Outcome(recipient, "failed", f"{_TOO_LARGE}: {_mb(len(content))} of at most {_mb(limit)}")

    transferred = False
    try:
        code, reply = smtp.mail(sender, options)
        if code != 250:
            return _sender_rejected(recipient, code, reply, settings)
        code, reply = smtp.rcpt(address)
        if code not in {250, 251}:
            with contextlib.suppress(OSError):  # a lost connection is detected by the next mail
                smtp.rset()
            return _rejected(recipient, code, reply)
        code, reply = smtp.docmd("DATA")
        if code != 354:
            return _rejected(recipient, code, reply)
        # In chunks: the timeout applies to each chunk, not to a large report on a slow connection.
        for start in range(0, len(content), _CHUNK):
            smtp.send(content[start : start + _CHUNK])
        smtp.send(b".\r\n")
        transferred = True
        code, reply = smtp.getreply()
    except OSError as error:
        reason = cause(error)
        if transferred:
            detail = f"the mail was transferred, but the server did not reply ({reason}): it may have arrived"
            raise _LostError(Outcome(recipient, "unknown", detail), reason) from error
        raise _LostError(Outcome(recipient, "failed", f"connection lost: {reason}"), reason) from error
    if code == 250:
        return Outcome(recipient, "sent", quote(code, reply))
    if _is_about_size(code, reply):
        return Outcome(
            recipient, "failed", f"{_TOO_LARGE}: {_mb(len(content))}, the server replied {quote(code, reply)}"
        )
    return _rejected(recipient, code, reply)


def _envelope(
    smtp: smtplib.SMTP, recipient: str, message: EmailMessage, settings: MailSettings
) -> tuple[str, str, list[str], bytes]:
    """The sender, recipient, options of MAIL, and bytes of DATA. Raises ValueError for an invalid address."""
    sender, address = mailbox(settings.sender).addr_spec, mailbox(recipient).addr_spec
    options: list[str] = []
    policy = SMTP
    if not (sender.isascii() and address.isascii()):
        if not smtp.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("the server does not support addresses outside ASCII (SMTPUTF8)")
        policy = SMTP.clone(utf8=True)
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    content = _LEADING_DOT.sub(b"..", message.as_bytes(policy=policy))
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    if smtp.has_extn("size"):
        options.append(f"SIZE={len(content)}")
    return sender, address, options, content


def _size_limit(smtp: smtplib.SMTP) -> int:
    """The size limit announced by the server in bytes; 0 if there is no fixed limit."""
    announced = smtp.esmtp_features.get("size", "").strip()
    return int(announced) if announced.isascii() and announced.isdecimal() else 0


def _sender_rejected(recipient: str, code: int, reply: bytes, settings: MailSettings) -> Outcome:
    """The outcome of a rejected MAIL command if size or a temporary error is the cause; otherwise raises DeliveryError."""
    if _is_about_size(code, reply):
        return Outcome(recipient, "failed", f"{_TOO_LARGE}: the server replied {quote(code, reply)}")
    if code < 500:
        return _rejected(recipient, code, reply)
    if code == 530:
        raise DeliveryError(
            f"{server_name(settings)} requires a login or TLS ({quote(code, reply)}): set mail.security, "
            "mail.username and mail.password."
        )
    raise DeliveryError(
        f"{server_name(settings)} rejects the sender {clean(settings.sender)} ({quote(code, reply)}): set mail.sender to an "
        "address that this login may use."
    )


def _rejected(recipient: str, code: int, reply: bytes) -> Outcome:
    """The outcome of a rejected mail: 5xx is permanent, other codes (greylisting, busy) are temporary."""
    reason = quote(code, reply)
    if code == 421:
        raise _LostError(Outcome(recipient, "failed", f"the server closed the connection: {reason}"), reason)
    return Outcome(recipient, "rejected" if code >= 500 else "failed", reason)


def _is_about_size(code: int, reply: bytes) -> bool:
    # RFC 3463: x.3.4 and x.2.3 are about size; 552 with another enhanced code is a full mailbox.
    enhanced = re.match(rb"[245]\.(\d{1,3}\.\d{1,3})\b", reply)
    if enhanced:
        return enhanced[1] in {b"3.4", b"2.3"}
    return code in {523, 552}


def _none_accepted(outcomes: Sequence[Outcome], settings: MailSettings) -> str:
    first = f"{outcomes[0].recipient}: {outcomes[0].detail}"
    if any(outcome.detail.startswith(_TOO_LARGE) for outcome in outcomes):
        return (
            f"The mail is too large for {server_name(settings)}, even without attachments ({first}): raise the size limit of "
            "the mail server."
        )
    if all(outcome.status == "rejected" for outcome in outcomes):
        login = "" if settings.username else ", and set mail.username if the server requires a login"
        return (
            f"{server_name(settings)} rejects all {len(outcomes)} recipients ({first}): check mail.recipients{login}."
        )
    return f"{server_name(settings)} accepts no mail at the moment ({first}): run the delivery again in a few minutes."


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
