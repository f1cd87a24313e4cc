"""Sends mails through Amazon SES (API v2, SendEmail with the raw message), with the credentials of boto3's default chain.

SendEmail has no idempotency token, so botocore does not retry: a request that SES may have accepted is an unknown outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError

from models.aws_error_codes import CREDENTIAL_CODES, DENIED_CODES, EXPIRED_CODES
from models.settings import AwsSettings, MailSettings
from reports.notify.batch import Batch
from reports.notify.message import ATTACHMENT_LIMIT, Compose, clean, mailbox
from reports.notify.result import DeliveryError, Outcome

RETRY_DELAYS: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each retry of a throttled call: an account in the sandbox may send one mail a second."""

_THROTTLED: Final = frozenset({"TooManyRequestsException", "ThrottlingException", "Throttling", "RequestThrottled"})
_RECIPIENT: Final = frozenset({"MessageRejected", "BadRequestException"})
_NOT_SENT: Final = (
    exceptions.EndpointConnectionError,
    exceptions.ConnectTimeoutError,
    exceptions.ProxyConnectionError,
    exceptions.SSLError,
)
"""The errors of calls that SES has not received."""
_READ_ATTEMPTS: Final = 3
_FIXES: Final = {
    "AccessDeniedException": "allow ses:SendEmail and ses:SendRawEmail on the identity of mail.sender",
    "MailFromDomainNotVerifiedException": "verify the MAIL FROM domain of mail.sender, or remove it from the identity",
    "AccountSuspendedException": "ask AWS to let this account send mails again",
    "SendingPausedException": "enable sending for the account and the configuration set",
    "LimitExceededException": "raise the sending quota, or try again in 24 hours",
    "NotFoundException": "correct mail.ses.configuration_set",
    "ExpiredTokenException": "renew the credentials",
    "UnrecognizedClientException": "check the credentials",
    "InvalidClientTokenId": "check the credentials",
    "SignatureDoesNotMatch": "check the credentials and the clock of this host",
}


def send(
    recipients: Sequence[str],
    compose: Compose,
    settings: tuple[MailSettings, AwsSettings],
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    claim: Callable[[str], bool] = lambda _: True,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Outcome]:
    """Send each recipient a mail; returns one outcome each, in the same order.

    Claims, reports outcomes and raises DeliveryError as `sender.send` does.
    """
    mail, aws = settings
    batch = Batch(recipients, on_outcome)
    service = _service(mail, aws)

    def deliver(recipient: str) -> Outcome:
        to = mailbox(recipient).addr_spec
        if not to.isascii():
            return Outcome(recipient, "rejected", f"{service} does not support addresses outside ASCII")
        content = compose(recipient, ATTACHMENT_LIMIT).as_bytes()
        request: dict[str, Any] = {
            "FromEmailAddress": mailbox(mail.sender).addr_spec,
            "Destination": {"ToAddresses": [to]},
            "Content": {"Raw": {"Data": content}},
        }
        if mail.ses and mail.ses.configuration_set:
            request["ConfigurationSetName"] = mail.ses.configuration_set
        return _call(client, request, recipient, service, sleep)

    if not recipients:
        return []
    try:
        client = _client(mail, aws, mail.timeout)
        batch.run(deliver, claim)
    except exceptions.NoCredentialsError:
        batch.fail(_without_credentials(service))
    except DeliveryError as error:
        batch.fail(error.message)
    except (exceptions.BotoCoreError, ValueError) as error:
        batch.fail(_not_callable(service, error))
    if batch.none_accepted:
        first = batch.outcomes[0]
        batch.fail(
            f"{service} accepted no mail ({first.recipient}: {first.detail}): verify the identity of mail.sender and, in the "
            "sandbox, each recipient."
        )
    return batch.outcomes


class ReadError(Exception):
    """A read-only call failed for a reason that says nothing about mails; the text is that of AWS."""

    def __init__(self, action: str, reason: str, *, denied: bool = False, not_found: bool = False) -> None:
        super().__init__(reason)
        self.action = action
        self.denied = denied
        self.not_found = not_found


class Reader:
    """Calls operations of SES that only read. Raises DeliveryError for what also keeps mails from being sent."""

    def __init__(self, mail: MailSettings, aws: AwsSettings, timeout: float) -> None:
        self.service = _service(mail, aws)
        self.region = _region(mail, aws)
        try:
            self._client = _client(mail, aws, timeout, _READ_ATTEMPTS)
        except (exceptions.BotoCoreError, ValueError) as error:
            raise DeliveryError(_not_callable(self.service, error)) from error

    def read(self, action: Literal["ses:GetAccount", "ses:GetEmailIdentity"], **request: str) -> dict[str, Any]:
        """Return the answer of the operation that the action allows. Raises ReadError or DeliveryError."""
        client = self._client
        method = client.get_account if action == "ses:GetAccount" else client.get_email_identity
        try:
            answer: dict[str, Any] = method(**request)
        except exceptions.ClientError as error:
            code = clean(str(error.response["Error"].get("Code", "")))
            text = clean(str(error.response["Error"].get("Message", "")))[:300]
            reason = f"{code}: {text}" if text else code
            if code in CREDENTIAL_CODES | EXPIRED_CODES:
                raise DeliveryError(
                    f"{self.service} rejects the credentials ({reason}): renew them, and check the clock of this host"
                ) from error
            missing = code == "NotFoundException"
            raise ReadError(action, reason, denied=code in DENIED_CODES, not_found=missing) from error
        except exceptions.NoCredentialsError as error:
            raise DeliveryError(_without_credentials(self.service)) from error
        except _NOT_SENT as error:
            raise DeliveryError(
                f"{self.service} cannot be reached ({clean(str(error))}): check mail.ses.region, firewalls and "
                "`aws.ca_bundle`"
            ) from error
        except (exceptions.BotoCoreError, ResponseParserError) as error:
            raise ReadError(action, clean(str(error))[:300]) from error
        return answer


def _call(
    client: Any, request: dict[str, Any], recipient: str, service: str, sleep: Callable[[float], None]
) -> Outcome:
    """Send one mail; a throttled call is repeated, because SES has not accepted the mail."""
    for delay in (*RETRY_DELAYS, None):
        try:
            return Outcome(recipient, "sent", f"message {clean(client.send_email(**request).get('MessageId', ''))}")
        except exceptions.ClientError as error:
            code = clean(str(error.response["Error"].get("Code", "")))
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            text = clean(str(error.response["Error"].get("Message", "")))[:200]
            if code in _THROTTLED and delay is not None:
                sleep(delay)
                continue
            return _rejected(recipient, service, code, status, text)
        except _NOT_SENT as error:
            raise DeliveryError(
                f"{service} cannot be reached ({clean(str(error))}): check mail.ses.region, firewalls and `aws.ca_bundle`."
            ) from error
        except (exceptions.HTTPClientError, exceptions.IncompleteReadError, ResponseParserError) as error:
            return Outcome(
                recipient, "unknown", f"{service} did not answer ({clean(str(error))}): the mail may have arrived"
            )
    raise AssertionError("the last attempt returns its outcome")


def _rejected(recipient: str, service: str, code: str, status: int, text: str) -> Outcome:
    """The outcome of an error that concerns this mail only; raises DeliveryError for one that concerns all mails."""
    reason = f"{code}: {text}" if text else code
    if code in _THROTTLED or status == 503:
        return Outcome(recipient, "failed", f"{service} is busy ({reason})")
    if status >= 500:
        return Outcome(recipient, "unknown", f"{service} failed ({reason}): the mail may have arrived")
    if code in _RECIPIENT:
        return Outcome(recipient, "rejected", f"{service} rejects the mail ({reason})")
    raise DeliveryError(
        f"{service} sends no mail ({reason}): {_FIXES.get(code, 'check mail.ses and the permissions')}."
    )


def _client(settings: MailSettings, aws: AwsSettings, timeout: float, attempts: int = 1) -> Any:
    """Return the client of boto3; by default it repeats no call, because a mail could arrive twice."""
    config = Config(
        connect_timeout=aws.connect_timeout,
        read_timeout=timeout,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        use_fips_endpoint=aws.use_fips,
        use_dualstack_endpoint=aws.use_dualstack,
        user_agent_extra="kmsledger",
    )
    session = boto3.Session(profile_name=aws.profile, region_name=_region(settings, aws))
    return session.client(
        "sesv2",
        config=config,
        endpoint_url=aws.endpoints.get("sesv2") or aws.endpoint_url,
        verify=str(aws.ca_bundle) if aws.ca_bundle else None,
    )


def _region(settings: MailSettings, aws: AwsSettings) -> str:
    return (settings.ses and settings.ses.region) or aws.region


def _service(settings: MailSettings, aws: AwsSettings) -> str:
    """The service, as the subject of a sentence."""
    return f"Amazon SES in {_region(settings, aws)}"


def _without_credentials(service: str) -> str:
    return f"there are no AWS credentials for {service}: configure those of the default chain"


def _not_callable(service: str, error: Exception) -> str:
    return f"{service} cannot be called ({clean(str(error))}): check mail.ses and the settings in `aws`"
