"""Send mails through one SMTP connection and say of every recipient what became of it.

The sender keeps no books and does not retry: it takes what is due and reports each outcome at once, so that the caller
can commit it before the next mail is on its way.
"""

import contextlib
import re
import smtplib
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final, NoReturn

from models.settings import MailSettings
from reports.notify.message import clean, mailbox
from reports.notify.result import DeliveryError, Outcome
from reports.notify.smtp_connection import cause, place, quote, session

__all__ = ["DeliveryError", "Outcome", "send"]

_CHUNK: Final = 65_536
_TOO_BIG: Final = "too big for the server"
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


def send(
    messages: Sequence[tuple[str, EmailMessage]],
    settings: MailSettings,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Send each message to its recipient over one connection and return one outcome each, in the same order.

    `on_outcome` is called exactly once a recipient, as soon as its outcome is known, whether this function returns or
    raises; what it raises stops the sending. Raises DeliveryError if the session fails (connection, TLS, login,
    sender), if it is lost on the way, or if not one mail was accepted. A recipient that was rejected beside others
    that were accepted is an outcome, not an error. With nothing to send, no connection is made.
    """
    if not messages:
        return []
    batch = _Batch(messages, on_outcome)
    try:
        with session(settings) as smtp:
            for recipient, message in messages:
                batch.record(_deliver(smtp, recipient, message, settings))
    except _LostError as error:
        batch.record(error.outcome)
        done = sum(outcome.status == "sent" for outcome in batch.outcomes)
        doubt = "" if error.outcome.status == "failed" else f", that of {error.outcome.recipient} is unknown"
        batch.fail(
            f"{place(settings)} was lost after {done} of {len(messages)} mails were sent{doubt} "
            f"({error.cause}): run the delivery again to send the ones that are missing."
        )
    except DeliveryError as error:
        batch.fail(error.message)
    if not any(outcome.status in {"sent", "unknown"} for outcome in batch.outcomes):
        batch.fail(_none_accepted(batch.outcomes, settings))
    return batch.outcomes


class _Batch:
    """The outcomes so far, reported as they come."""

    def __init__(self, messages: Sequence[tuple[str, EmailMessage]], on_outcome: Callable[[Outcome], None]) -> None:
        self._recipients = [recipient for recipient, _ in messages]
        self._on_outcome = on_outcome
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._on_outcome(outcome)

    def fail(self, message: str) -> NoReturn:
        """Record the recipients that were not reached as failed and raise."""
        for recipient in self._recipients[len(self.outcomes) :]:
            self.record(Outcome(recipient, "failed", message))
        raise DeliveryError(message, self.outcomes) from None


class _LostError(Exception):
    """The connection broke during one mail, whose outcome it carries."""

    def __init__(self, outcome: Outcome, cause: str) -> None:
        super().__init__(cause)
        self.outcome = outcome
        self.cause = cause


def _deliver(smtp: smtplib.SMTP, recipient: str, message: EmailMessage, settings: MailSettings) -> Outcome:
    """Run one transaction: MAIL, RCPT, DATA.

    Raises _LostError when the connection broke and DeliveryError when the sender is refused, which concerns all mails.
    """
    try:
        sender, address, options, content = _envelope(smtp, recipient, message, settings)
    except (ValueError, smtplib.SMTPNotSupportedError) as error:
        return Outcome(recipient, "rejected", clean(str(error)))
    limit = _size_limit(smtp)
    if 0 < limit < len(content):
        return Outcome(recipient, "failed", f"{_TOO_BIG}: {_mb(len(content))} of at most {_mb(limit)}")

    handed_over = False
    try:
        code, reply = smtp.mail(sender, options)
        if code != 250:
            return _sender_refused(recipient, code, reply, settings)
        code, reply = smtp.rcpt(address)
        if code not in {250, 251}:
            with contextlib.suppress(OSError):  # if it is gone, the next mail will find out
                smtp.rset()
            return _refused(recipient, code, reply)
        code, reply = smtp.docmd("DATA")
        if code != 354:
            return _refused(recipient, code, reply)
        # In pieces: a time-out applies to each, not to the whole of a big report on a slow line.
        for start in range(0, len(content), _CHUNK):
            smtp.send(content[start : start + _CHUNK])
        smtp.send(b".\r\n")
        handed_over = True
        code, reply = smtp.getreply()
    except OSError as error:
        reason = cause(error)
        if handed_over:
            detail = f"the mail was handed over, but the server's answer is missing ({reason}): it may have arrived"
            raise _LostError(Outcome(recipient, "unknown", detail), reason) from error
        raise _LostError(Outcome(recipient, "failed", f"connection lost: {reason}"), reason) from error
    if code == 250:
        return Outcome(recipient, "sent", quote(code, reply))
    if _is_about_size(code, reply):
        return Outcome(recipient, "failed", f"{_TOO_BIG}: {_mb(len(content))}, it says {quote(code, reply)}")
    return _refused(recipient, code, reply)


def _envelope(
    smtp: smtplib.SMTP, recipient: str, message: EmailMessage, settings: MailSettings
) -> tuple[str, str, list[str], bytes]:
    """Return sender, recipient, options of MAIL and the octets of DATA. Raises ValueError for an unusable address."""
    sender, address = mailbox(settings.sender).addr_spec, mailbox(recipient).addr_spec
    options: list[str] = []
    policy = SMTP
    if not (sender.isascii() and address.isascii()):
        if not smtp.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError("the server takes no address outside ASCII (SMTPUTF8)")
        policy = SMTP.clone(utf8=True)
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    content = _LEADING_DOT.sub(b"..", message.as_bytes(policy=policy))
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    if smtp.has_extn("size"):
        options.append(f"SIZE={len(content)}")
    return sender, address, options, content


def _size_limit(smtp: smtplib.SMTP) -> int:
    """Return what the server announced as its limit in octets; 0 is no fixed limit."""
    announced = smtp.esmtp_features.get("size", "").strip()
    return int(announced) if announced.isascii() and announced.isdecimal() else 0


def _sender_refused(recipient: str, code: int, reply: bytes, settings: MailSettings) -> Outcome:
    """Judge a refused MAIL: of the size or for the moment it concerns this mail, else DeliveryError for all."""
    if _is_about_size(code, reply):
        return Outcome(recipient, "failed", f"{_TOO_BIG}: it says {quote(code, reply)}")
    if code < 500:
        return _refused(recipient, code, reply)
    if code == 530:
        raise DeliveryError(
            f"{place(settings)} wants a login or TLS before it takes mail ({quote(code, reply)}): set mail.security, "
            "mail.username and mail.password."
        )
    raise DeliveryError(
        f"{place(settings)} refuses the sender {clean(settings.sender)} ({quote(code, reply)}): set mail.sender to an "
        "address that this login may send from."
    )


def _refused(recipient: str, code: int, reply: bytes) -> Outcome:
    """Turn a refusal of one mail into its outcome: 5xx is for good, the rest (greylisting, busy) for the moment."""
    answer = quote(code, reply)
    if code == 421:
        raise _LostError(Outcome(recipient, "failed", f"the server closes the connection: {answer}"), answer)
    return Outcome(recipient, "rejected" if code >= 500 else "failed", answer)


def _is_about_size(code: int, reply: bytes) -> bool:
    # RFC 3463: x.3.4 and x.2.3 are about size; 552 with another enhanced code is a full mailbox.
    enhanced = re.match(rb"[245]\.(\d{1,3}\.\d{1,3})\b", reply)
    if enhanced:
        return enhanced[1] in {b"3.4", b"2.3"}
    return code in {523, 552}


def _none_accepted(outcomes: Sequence[Outcome], settings: MailSettings) -> str:
    first = f"{outcomes[0].recipient}: {outcomes[0].detail}"
    if any(outcome.detail.startswith(_TOO_BIG) for outcome in outcomes):
        return (
            f"The mail is too big for {place(settings)} ({first}): set mail.attach_report to false, or have the limit "
            "of the mail server raised."
        )
    if all(outcome.status == "rejected" for outcome in outcomes):
        login = "" if settings.username else ", and mail.username if the server wants a login"
        return f"{place(settings)} rejects all {len(outcomes)} recipients ({first}): check mail.recipients{login}."
    return f"{place(settings)} took no mail for now ({first}): run the delivery again in a few minutes."


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
