"""Checks Amazon SES for `kmsledger doctor`: account, sender and, in the sandbox, recipients. Only reads, and sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from models.diagnosis import Check, from_error, named, ok, problem, unknown
from models.settings import AwsSettings, MailSettings
from reports.notify.message import clean, mailbox
from reports.notify.result import DeliveryError
from reports.notify.ses import Reader, ReadError

NAME: Final = "mail"
TIMEOUT: Final = 10.0
"""Seconds that a call may take. A person waits for the result."""
MAX_RECIPIENTS: Final = 50
"""Recipients that are looked up in the sandbox."""

_SIMULATOR: Final = "simulator.amazonses.com"
"""The domain of the mailbox simulator, which the sandbox always reaches."""


def check_ses(mail: MailSettings, aws: AwsSettings) -> list[Check]:
    """Return the checks of what Amazon SES needs to send the report."""
    try:
        return list(_checks(_Ses(Reader(mail, aws, min(mail.timeout, TIMEOUT))), mail))
    except DeliveryError as error:
        return [from_error(NAME, error)]


@dataclass
class _Identity:
    """An address or domain in SES."""

    name: str
    verified: bool
    status: str
    rejects: bool
    """Whether SES rejects its mails, because its MAIL FROM domain has no valid MX record."""


class _Ses:
    """The read-only calls; each identity is looked up once."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.service = reader.service
        self._identity = cache(self._look_up)

    def identities(self, address: str) -> tuple[list[_Identity], ReadError | None]:
        """The identities that allow an address (itself, its domain, parent domains), and the first call that failed.

        Ends with the first verified one: SES needs no other.
        """
        found: list[_Identity] = []
        error: ReadError | None = None
        for name in _candidates(address):
            identity = self._identity(name)
            if isinstance(identity, ReadError):
                error = error or identity
            elif identity is not None:
                found.append(identity)
                if identity.verified:
                    break
        return found, error

    def _look_up(self, name: str) -> _Identity | ReadError | None:
        try:
            answer = self.reader.read("ses:GetEmailIdentity", EmailIdentity=name)
        except ReadError as error:
            return None if error.not_found else error
        mail_from = answer.get("MailFromAttributes") or {}
        return _Identity(
            name,
            answer.get("VerifiedForSendingStatus") is True,
            clean(str(answer.get("VerificationStatus", ""))),
            mail_from.get("BehaviorOnMxFailure") == "REJECT_MESSAGE"
            and mail_from.get("MailFromDomainStatus") != "SUCCESS",
        )


def _checks(ses: _Ses, mail: MailSettings) -> Iterator[Check]:
    recipients = _recipients(mail)
    try:
        account = ses.reader.read("ses:GetAccount")
    except ReadError as error:
        yield _not_checked(f"whether {ses.service} sends mails, and to whom", error)
        account = {}
    else:
        yield from _account(ses.service, account, recipients)
    yield _sender(ses, mailbox(mail.sender).addr_spec)
    addresses = list(dict.fromkeys(mailbox(recipient).addr_spec for recipient in recipients))
    if unsupported := [address for address in addresses if not address.isascii()]:
        yield problem(
            NAME,
            f"{ses.service} does not support addresses outside ASCII: {clean(named(unsupported))}",
            "correct them in mail.recipients and mail.routes",
            *unsupported,
        )
    if account.get("ProductionAccessEnabled") is False:
        yield from _sandbox(ses, [address for address in addresses if address.isascii()])


def _recipients(mail: MailSettings) -> list[str]:
    """The recipients of all mails of a run; several mails to the same one count each."""
    return [*mail.recipients, *(recipient for route in mail.routes for recipient in route.recipients)]


def _account(service: str, account: dict[str, Any], recipients: Sequence[str]) -> Iterator[Check]:
    problems = []
    status = clean(str(account.get("EnforcementStatus", "")))
    if status == "SHUTDOWN":
        problems.append(
            problem(
                NAME,
                f"{service} has paused sending because of the account's reputation (SHUTDOWN)",
                "correct what the reputation dashboard of SES shows, and ask AWS to resume sending",
            )
        )
    elif account.get("SendingEnabled") is False:
        problems.append(
            problem(
                NAME,
                f"{service}: sending is disabled for the account",
                "aws sesv2 put-account-sending-attributes --sending-enabled",
            )
        )
    if status == "PROBATION":
        problems.append(
            problem(
                NAME,
                f"{service} reviews the account because of its reputation (PROBATION) and may pause sending",
                "correct what the reputation dashboard of SES shows",
            )
        )
    quota = account.get("SendQuota") or {}
    limit, sent = quota.get("Max24HourSend"), quota.get("SentLast24Hours", 0)
    if limit is None:
        rest = "quota unknown"
    elif limit < 0:
        rest = "no quota"
    else:
        left = max(0, int(limit - sent))
        rest = f"{left:,} of {int(limit):,} mails left in these 24 hours"
        if left < len(recipients):
            problems.append(
                problem(
                    NAME,
                    f"{service}: {rest}, and a run sends {len(recipients):,}",
                    "raise the sending quota, or try again in 24 hours",
                )
            )
    yield from problems
    if not problems:
        access = "sandbox" if account.get("ProductionAccessEnabled") is False else "production access"
        yield ok(NAME, f"{service}: sending is enabled, {access}, {rest}; nothing was sent")


def _sender(ses: _Ses, sender: str) -> Check:
    found, error = ses.identities(sender)
    verified = next((identity for identity in found if identity.verified), None)
    if verified is not None and verified.rejects:
        return problem(
            NAME,
            f"{ses.service} rejects mails of {verified.name}, because its MAIL FROM domain has no valid MX record",
            "publish the MX record of the MAIL FROM domain, or remove it from the identity",
            verified.name,
        )
    if verified is not None:
        return ok(NAME, f"{ses.service}: the identity {verified.name} of mail.sender is verified", verified.name)
    if error is not None:
        return _not_checked(f"whether {ses.service} may send as {clean(sender)} (mail.sender)", error)
    if found:
        identity = found[0]
        return problem(
            NAME,
            f"{ses.service} has not verified the identity {identity.name} of mail.sender"
            f"{f' ({identity.status})' if identity.status else ''}",
            "open the link that AWS sent to this address"
            if "@" in identity.name
            else "publish the DKIM records of this domain, which the console of SES shows",
            identity.name,
        )
    domain = sender.rpartition("@")[2]
    return problem(
        NAME,
        f"{ses.service} has no identity for mail.sender: neither {clean(sender)} nor its domain",
        f"aws sesv2 create-email-identity --region {ses.reader.region} --email-identity {domain}, and publish the DKIM "
        "records that it returns",
        sender,
    )


def _sandbox(ses: _Ses, addresses: Sequence[str]) -> Iterator[Check]:
    """The recipients that a mail from the sandbox does not reach."""
    checked = [address for address in addresses if not address.endswith(f"@{_SIMULATOR}")]
    unverified: list[str] = []
    unread: list[str] = []
    failed: ReadError | None = None
    for address in checked[:MAX_RECIPIENTS]:
        found, error = ses.identities(address)
        if any(identity.verified for identity in found):
            continue
        if error is None:
            unverified.append(address)
        else:
            unread.append(address)
            failed = failed or error
    if unverified:
        yield problem(
            NAME,
            f"{ses.service} is in the sandbox, and mails do not reach recipients that are not verified: {named(unverified)}",
            "request production access (aws sesv2 put-account-details), or verify each of these addresses or its domain",
            *unverified,
        )
    if failed is not None:
        yield _not_checked(f"whether mails from the sandbox of {ses.service} reach {named(unread)}", failed)
    if more := checked[MAX_RECIPIENTS:]:
        yield unknown(
            NAME,
            f"whether mails from the sandbox of {ses.service} reach {named(more)} could not be checked: only the first "
            f"{MAX_RECIPIENTS} recipients are looked up",
            "request production access (aws sesv2 put-account-details)",
            *more,
        )
    if not (unverified or failed or more):
        yield ok(NAME, f"{ses.service} is in the sandbox, and all recipients are verified")


def _candidates(address: str) -> Iterator[str]:
    """The identities that allow an address: itself, its domain, and the domains above it, without top-level domains."""
    yield address
    labels = address.rpartition("@")[2].split(".")
    for start in range(max(1, len(labels) - 1)):
        yield ".".join(labels[start:])


def _not_checked(what: str, error: ReadError) -> Check:
    message = f"{what}, could not be checked" if "," in what else f"{what} could not be checked"
    message = f"{message}: {error.action} failed ({error})"
    if not error.denied:
        return unknown(NAME, message, "run `kmsledger doctor` again later; check mail.ses and aws.endpoints")
    statement = {"Sid": "CheckTheMail", "Effect": "Allow", "Action": [error.action], "Resource": "*"}
    return unknown(
        NAME,
        message.replace(" failed (", " is denied ("),
        "add this statement to a policy of the identity that runs kmsledger, as `kmsledger permissions --role management` "
        "prints it",
        error.action,
        statement=statement,
    )
