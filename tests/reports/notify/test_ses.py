"""Amazon SES: deliveries through moto, and the outcome of each kind of error through boto3 and a local endpoint."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.settings import AwsSettings, MailSettings
from reports.notify.result import DeliveryError, Outcome
from reports.notify.ses import RETRY_DELAYS, send
from tests.reports.notify.conftest import free_port
from tests.reports.notify.delivery_helpers import log_of, settings_of
from tests.reports.notify.delivery_helpers import send as deliver
from tests.reports.notify.http_receiver import Receiver, run_receiver
from tests.reports.notify.smtp_helpers import composer

if TYPE_CHECKING:
    from demo.server import AwsServer

SENT = json.dumps({"MessageId": "0102-m"}).encode()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def send_to(
    url: str,
    *recipients: str,
    pauses: list[float] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    **mail: Any,
) -> list[Outcome]:
    """Send the sample mail through the endpoint."""
    settings = MailSettings.model_validate(
        {
            "ses": {"configuration_set": "reports"},
            "sender": "ledger@example.org",
            "recipients": ["ciso@example.org"],
            "timeout": 1,
            **mail,
        }
    )
    aws = AwsSettings.model_validate({"region": "eu-west-1", "endpoint_url": url.partition("?")[0]})
    pauses = [] if pauses is None else pauses
    return send(
        recipients or ("ciso@example.org",), composer(settings), (settings, aws), on_outcome, sleep=pauses.append
    )


def test_the_raw_message_is_sent_with_a_signature() -> None:
    """One SendEmail call per recipient has the composed mail, both addresses and the configuration set (SES API v2)."""
    with run_receiver(Receiver(body=SENT)) as receiver:
        outcomes = send_to(receiver.url, "ciso@example.org", "Jörg <joerg@bücher.example>", "jörg@example.org")
    assert [(outcome.status, outcome.detail) for outcome in outcomes] == [
        ("sent", "message 0102-m"),
        ("sent", "message 0102-m"),
        ("rejected", "Amazon SES in eu-west-1 does not support addresses outside ASCII"),
    ]
    first, second = receiver.requests
    assert first.path == "/events/v2/email/outbound-emails"
    assert "/eu-west-1/ses/aws4_request" in first.headers["authorization"]
    request = json.loads(first.body)
    assert request["FromEmailAddress"] == "ledger@example.org"
    assert request["Destination"] == {"ToAddresses": ["ciso@example.org"]}
    assert request["ConfigurationSetName"] == "reports"
    assert json.loads(second.body)["Destination"] == {"ToAddresses": ["joerg@xn--bcher-kva.example"]}


@pytest.mark.parametrize(
    ("answer", "code", "status", "message"),
    [
        (400, "MessageRejected", "rejected", "verify the identity of mail.sender and, in the sandbox, each recipient."),
        (400, "BadRequestException", "rejected", "accepted no mail (ciso@example.org: Amazon SES in eu-west-1 rejects"),
        (403, "AccessDeniedException", "failed", "allow ses:SendEmail and ses:SendRawEmail on the identity"),
        (400, "SendingPausedException", "failed", "enable sending for the account"),
        (404, "NotFoundException", "failed", "correct mail.ses.configuration_set"),
        (403, "UnheardOfException", "failed", "check mail.ses and the permissions"),
        (429, "TooManyRequestsException", "failed", "is busy (TooManyRequestsException: no)"),
        (503, "ServiceUnavailable", "failed", "is busy (ServiceUnavailable: no)"),
    ],
)
def test_an_error_is_explained(answer: int, code: str, status: str, message: str) -> None:
    """Errors about a mail concern that mail, errors about sender, account or permissions all of them; each has its fix."""
    script = Receiver([answer], {"x-amzn-errortype": code}, body=b'{"message": "no"}')
    outcomes: list[Outcome] = []
    with run_receiver(script) as receiver, pytest.raises(DeliveryError) as caught:
        send_to(receiver.url, on_outcome=outcomes.append)
    assert [outcome.status for outcome in outcomes] == [status]
    assert message in caught.value.message
    assert caught.value.exit_code == 4
    assert len(receiver.requests) == (1 + len(RETRY_DELAYS) if answer == 429 else 1)


def test_a_throttled_call_is_repeated() -> None:
    """SES has not accepted a mail that it throttles, so that the same mail is sent again after a pause."""
    pauses: list[float] = []
    with run_receiver(
        Receiver([429, 429, 200], {"x-amzn-errortype": "TooManyRequestsException"}, body=SENT)
    ) as receiver:
        outcomes = send_to(receiver.url, pauses=pauses)
    assert [outcome.status for outcome in outcomes] == ["sent"]
    assert pauses == list(RETRY_DELAYS[:2])


@pytest.mark.parametrize("answer", [500, 0, -1], ids=["failure", "closed", "silence"])
def test_a_call_without_an_answer_is_not_repeated(answer: int) -> None:
    """SendEmail has no idempotency token: if SES may have accepted the mail, it is unknown and sent once."""
    script = Receiver([answer], {"x-amzn-errortype": "InternalFailure"}, body=b"{}")
    with run_receiver(script) as receiver:
        outcomes = send_to(receiver.url)
    assert [outcome.status for outcome in outcomes] == ["unknown"]
    assert "the mail may have arrived" in outcomes[0].detail
    assert len(receiver.requests) == 1


def test_an_unreachable_endpoint() -> None:
    """Nothing was sent, and the message names the settings."""
    outcomes: list[Outcome] = []
    with pytest.raises(DeliveryError, match=r"cannot be reached .*: check mail\.ses\.region, firewalls"):
        send_to(f"http://127.0.0.1:{free_port()}", "a@example.org", "b@example.org", on_outcome=outcomes.append)
    assert [outcome.status for outcome in outcomes] == ["failed", "failed"]


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials in the default chain nothing is sent."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(DeliveryError, match="there are no AWS credentials for Amazon SES in eu-west-1"):
        send_to("http://127.0.0.1:1")


@pytest.mark.deep
def test_mails_through_moto(folder: Path, aws_server: AwsServer) -> None:
    """The report is delivered once per recipient through SES as moto implements it; an unverified sender is explained."""
    from moto.ses.models import ses_backends

    base = settings_of(folder, 1, host=None, ses={"region": "eu-west-1"}, timeout=60)
    settings = base.model_copy(update={"aws": AwsSettings.model_validate({"endpoint_url": aws_server.url})})
    assert not deliver(settings)
    assert log_of(settings) == {"ciso@example.org": "rejected"}
    aws_server.session().client("sesv2", region_name="eu-west-1", endpoint_url=aws_server.url).create_email_identity(
        EmailIdentity="ledger@example.org"
    )
    assert deliver(settings, resend=True)
    assert deliver(settings)
    [sent] = [message for backend in ses_backends.values() for message in backend["eu-west-1"].sent_messages]
    parsed = email.message_from_string(sent.raw_data, policy=email.policy.default)
    assert parsed["To"] == "ciso@example.org"
    assert [part.get_filename() for part in parsed.iter_attachments()] == ["report.html"]
