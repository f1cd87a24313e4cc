"""Amazon SES in `kmsledger doctor`: account, sender and recipients through boto3, a local endpoint and moto; nothing is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from models.diagnosis import Check, Status
from models.settings import AwsSettings, MailSettings
from reports.notify.ses_check import MAX_RECIPIENTS, check_ses
from tests.reports.notify.conftest import free_port

if TYPE_CHECKING:
    from demo.server import AwsServer

VERIFIED = {"IdentityType": "DOMAIN", "VerifiedForSendingStatus": True, "VerificationStatus": "SUCCESS"}
PENDING = {"IdentityType": "EMAIL_ADDRESS", "VerifiedForSendingStatus": False, "VerificationStatus": "PENDING"}
ACCOUNT = {
    "EnforcementStatus": "HEALTHY",
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "SendQuota": {"Max24HourSend": 50_000.0, "MaxSendRate": 14.0, "SentLast24Hours": 100.0},
}
SANDBOX = {**ACCOUNT, "ProductionAccessEnabled": False}


SERVICE = "Amazon SES in eu-west-1"


@dataclass
class Ses:
    """What the endpoint knows; an error is its code instead of an answer."""

    account: Mapping[str, Any] | str = field(default_factory=lambda: ACCOUNT)
    identities: Mapping[str, Mapping[str, Any] | str] = field(default_factory=lambda: {"example.org": VERIFIED})
    calls: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def run_ses(ses: Ses) -> Iterator[Ses]:
    """Run the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ses.calls.append(unquote(self.path))
            name = unquote(self.path.rpartition("/")[2])
            is_account = self.path == "/v2/email/account"
            answer = ses.account if is_account else ses.identities.get(name, "NotFoundException")
            codes = {"NotFoundException": 404, "AccessDeniedException": 403, "InternalFailure": 500}
            self.send_response(codes.get(answer, 400) if isinstance(answer, str) else 200)
            if isinstance(answer, str):
                self.send_header("x-amzn-errortype", answer)
                answer = {"message": f"no {name}\x1b[31m"}
            body = json.dumps(answer).encode()
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    ses.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield ses
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def checked_at(url: str, **mail: Any) -> list[Check]:
    """The checks with an endpoint; all are about mail, and no text has a control character."""
    values = {"ses": {}, "sender": "ledger@example.org", "recipients": ["ciso@example.net"], "timeout": 1}
    settings = MailSettings.model_validate({**values, **mail})
    checks = check_ses(settings, AwsSettings.model_validate({"region": "eu-west-1", "endpoint_url": url}))
    assert {check.name for check in checks} == {"mail"}
    assert not any("\x1b" in check.message + check.fix for check in checks)
    return checks


def checked(ses: Ses, **mail: Any) -> list[Check]:
    """The checks of a running endpoint, which got read-only calls."""
    with run_ses(ses):
        checks = checked_at(ses.url, **mail)
    assert all(call.startswith(("/v2/email/account", "/v2/email/identities/")) for call in ses.calls)
    return checks


def test_an_account_that_sends() -> None:
    """Two read-only operations show access, quota and sender; with production access, recipients are not looked up."""
    ses = Ses()
    checks = checked(ses)
    assert [(check.status, check.message) for check in checks] == [
        (
            Status.OK,
            f"{SERVICE}: sending is enabled, production access, 49,900 of 50,000 mails left in these 24 hours; nothing was sent",
        ),
        (Status.OK, "Amazon SES in eu-west-1: the identity example.org of mail.sender is verified"),
    ]
    assert ses.calls == [
        "/v2/email/account",
        "/v2/email/identities/ledger@example.org",
        "/v2/email/identities/example.org",
    ]


@pytest.mark.parametrize(
    ("change", "message", "fix"),
    [
        ({"SendingEnabled": False}, "sending is disabled", "put-account-sending-attributes --sending-enabled"),
        ({"EnforcementStatus": "PROBATION"}, "reviews the account", "reputation dashboard"),
        ({"EnforcementStatus": "SHUTDOWN", "SendingEnabled": False}, "paused sending", "ask AWS to resume sending"),
        (
            {"SendQuota": {"Max24HourSend": 200.0, "SentLast24Hours": 199.0}},
            "1 of 200 mails left in these 24 hours, and a run sends 2",
            "raise the sending quota",
        ),
    ],
)
def test_an_account_that_does_not_send(change: dict[str, Any], message: str, fix: str) -> None:
    """Disabled sending, a reputation review and an exhausted quota are one problem each; each mail of a route counts."""
    first, sender = checked(
        Ses(account={**ACCOUNT, **change}),
        routes=[{"owner": "payments", "recipients": ["payments@example.net"]}],
    )
    assert (first.status, sender.status) == (Status.PROBLEM, Status.OK)
    assert message in first.message
    assert fix in first.fix


def test_a_quota_without_limit() -> None:
    """A quota of -1 is no limit."""
    first, _ = checked(Ses(account={**ACCOUNT, "SendQuota": {"Max24HourSend": -1.0, "SentLast24Hours": 9e6}}))
    assert (first.status, "no quota" in first.message) == (Status.OK, True)


@pytest.mark.parametrize(
    ("identities", "status", "message", "fix"),
    [
        ({"ledger@example.org": VERIFIED}, Status.OK, "ledger@example.org of mail.sender is verified", ""),
        ({"ledger@example.org": PENDING, "example.org": VERIFIED}, Status.OK, "the identity example.org", ""),
        (
            {"ledger@example.org": PENDING},
            Status.PROBLEM,
            "not verified the identity ledger@example.org of mail.sender (PENDING)",
            "open the link",
        ),
        (
            {"example.org": PENDING},
            Status.PROBLEM,
            "has not verified the identity example.org",
            "publish the DKIM records",
        ),
        (
            {},
            Status.PROBLEM,
            "no identity for mail.sender",
            "create-email-identity --region eu-west-1 --email-identity",
        ),
        (
            {
                "example.org": {
                    **VERIFIED,
                    "MailFromAttributes": {"BehaviorOnMxFailure": "REJECT_MESSAGE", "MailFromDomainStatus": "FAILED"},
                }
            },
            Status.PROBLEM,
            "its MAIL FROM domain has no valid MX record",
            "remove it from the identity",
        ),
    ],
    ids=["address", "domain", "pending address", "pending domain", "none", "MAIL FROM"],
)
def test_the_sender(identities: dict[str, Any], status: Status, message: str, fix: str) -> None:
    """The address or its domain must be verified; the fix depends on what is missing."""
    _, sender = checked(Ses(identities=identities))
    assert sender.status is status
    assert message in sender.message
    assert fix in sender.fix


def test_a_verified_domain_covers_the_domains_below_it() -> None:
    """Mails from a subdomain need no identity of their own; a top-level domain is no identity."""
    ses = Ses()
    _, sender = checked(ses, sender="ledger@kms.security.example.org")
    assert "the identity example.org of mail.sender is verified" in sender.message
    assert "/v2/email/identities/org" not in ses.calls


def test_the_sandbox_reaches_verified_recipients_only() -> None:
    """In the sandbox, the recipients whose address and domain are not verified are named, also those of routes."""
    identities = {"example.org": VERIFIED, "ciso@example.net": PENDING, "audit@example.net": VERIFIED}
    routes = [{"owner": "payments", "recipients": ["payments@example.com", "ciso@example.net"]}]
    recipients = ["ciso@example.net", "audit@example.net", "a@example.org", "success@simulator.amazonses.com"]
    account, _, sandbox = checked(Ses(SANDBOX, identities), recipients=recipients, routes=routes)
    assert (account.status, "sandbox" in account.message) == (Status.OK, True)
    assert (sandbox.status, sandbox.subjects) == (Status.PROBLEM, ("ciso@example.net", "payments@example.com"))
    assert "do not reach recipients that are not verified: ciso@example.net, payments@example.com" in sandbox.message
    assert "request production access" in sandbox.fix
    *_, fine = checked(Ses(SANDBOX, identities), recipients=["audit@example.net"])
    assert (fine.status, fine.message.endswith("all recipients are verified")) == (Status.OK, True)


def test_many_recipients_in_the_sandbox_are_not_all_looked_up() -> None:
    """The number of calls is bounded; recipients beyond it are unknown, not fine."""
    identities = {"example.org": VERIFIED}
    recipients = [f"r{number}@example.org" for number in range(MAX_RECIPIENTS + 1)]
    *_, last = checked(Ses(SANDBOX, identities), recipients=recipients)
    assert (last.status, last.subjects) == (Status.UNKNOWN, (f"r{MAX_RECIPIENTS}@example.org",))


def test_a_denied_account_is_unknown() -> None:
    """Without ses:GetAccount, SES may work: the check says what is unknown and has the missing statement."""
    account, sender = checked(Ses(account="AccessDeniedException"))
    assert (account.status, sender.status) == (Status.UNKNOWN, Status.OK)
    assert account.message.startswith(
        "whether Amazon SES in eu-west-1 sends mails, and to whom, could not be checked: ses:GetAccount is denied "
        "(AccessDeniedException: no account"
    )
    assert account.statement == {
        "Sid": "CheckTheMail",
        "Effect": "Allow",
        "Action": ["ses:GetAccount"],
        "Resource": "*",
    }
    assert "kmsledger permissions --role management" in account.fix


def test_denied_identities_are_unknown() -> None:
    """A denied lookup is no missing identity; what another lookup shows still counts."""
    denied = {"ledger@example.org": "AccessDeniedException", "ciso@example.net": "AccessDeniedException"}
    _, sender, sandbox = checked(Ses(SANDBOX, denied))
    assert (sender.status, sandbox.status) == (Status.UNKNOWN, Status.UNKNOWN)
    assert "may send as ledger@example.org (mail.sender) could not be checked: ses:GetEmailIdentity" in sender.message
    assert "reach ciso@example.net could not be checked" in sandbox.message
    assert sandbox.statement is not None
    assert sandbox.statement["Action"] == ["ses:GetEmailIdentity"]
    _, sender, sandbox = checked(Ses(SANDBOX, {**denied, "example.org": VERIFIED, "example.net": VERIFIED}))
    assert (sender.status, sandbox.status) == (Status.OK, Status.OK)


@pytest.mark.parametrize("code", ["InternalFailure", "TooManyRequestsException", "NotFoundException"])
def test_a_failed_call_is_unknown(code: str) -> None:
    """A failure of the read-only call says nothing about mails; no permission is suggested."""
    account, _ = checked(Ses(account=code))
    assert account.status is Status.UNKNOWN
    assert "ses:GetAccount failed (" in account.message
    assert account.statement is None


def test_credentials_that_aws_rejects_send_no_mail() -> None:
    """Rejected credentials are a problem of every call, and the only one that is named."""
    (only,) = checked(Ses(account="UnrecognizedClientException"))
    assert only.status is Status.PROBLEM
    assert "rejects the credentials" in only.message
    assert only.fix == "renew them, and check the clock of this host"


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials no mail can be sent."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    (only,) = checked_at("http://127.0.0.1:1")
    assert (only.status, only.fix) == (Status.PROBLEM, "configure those of the default chain")


def test_an_unreachable_endpoint() -> None:
    """Mails use the same endpoint, so that one which cannot be reached is a problem."""
    (only,) = checked_at(f"http://127.0.0.1:{free_port()}")
    assert only.status is Status.PROBLEM
    assert "cannot be reached" in only.message
    assert only.fix.startswith("check mail.ses.region, firewalls")


def test_addresses_outside_ascii_are_named() -> None:
    """SES does not send to them, whatever is verified."""
    _, _, last = checked(Ses(), recipients=["jörg@example.org"])
    assert (last.status, last.subjects) == (Status.PROBLEM, ("jörg@example.org",))


@pytest.mark.deep
def test_identities_of_moto(aws_server: AwsServer) -> None:
    """Identities are read over HTTP as moto implements them; moto has no GetAccount, which is unknown."""
    from moto.ses.models import ses_backends

    mail = {"sender": "ledger@doctor.example"}
    account, sender = checked_at(aws_server.url, **mail)
    assert (account.status, sender.status) == (Status.UNKNOWN, Status.PROBLEM)
    client = aws_server.session().client("sesv2", region_name="eu-west-1", endpoint_url=aws_server.url)
    client.create_email_identity(EmailIdentity="doctor.example")
    try:
        _, sender = checked_at(aws_server.url, **mail)
        assert "has not verified the identity doctor.example" in sender.message
        for backend in ses_backends.values():
            for identity in backend["eu-west-1"].email_identities.values():
                identity.verified_for_sending_status = True
        _, sender = checked_at(aws_server.url, **mail)
        assert sender.status is Status.OK
    finally:
        client.delete_email_identity(EmailIdentity="doctor.example")
