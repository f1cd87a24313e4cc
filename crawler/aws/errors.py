"""Classifies AWS errors: the single place that maps error codes and messages to causes.

The classification relies on AWS's wording: the message of an access denial names the deciding policy type ("because no
identity-based policy allows ...", "with an explicit deny in a service control policy").
"""

from __future__ import annotations

import re

from crawler.spec import Operation
from models.aws_error_codes import CREDENTIAL_CODES, DENIED_CODES, EXPIRED_CODES
from models.errors import UserError
from models.tables.runs import Cause

MESSAGE_LIMIT = 1000
CODE_LIMIT = 100

THROTTLE_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
UNSUPPORTED_CODES = frozenset(
    {
        "501",
        "404",
        "InvalidAction",
        "MethodNotAllowed",
        "NotImplemented",
        "OperationNotSupportedException",
        "UnknownOperation",
        "UnknownOperationException",
        "UnsupportedOperation",
        "UnsupportedOperationException",
    }
)
REGION_CODES = frozenset({"OptInRequired", "RegionDisabledException", "InvalidRegion"})
TRANSIENT_CODES = frozenset(
    {
        "DependencyTimeoutException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServiceError",
        "InternalServiceErrorException",
        "KMSInternalException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
RETRYABLE = frozenset({Cause.THROTTLED, Cause.SERVICE_ERROR, Cause.UNREACHABLE})

_DENIALS = (
    ("service control policy", Cause.SERVICE_CONTROL_POLICY),
    ("resource control policy", Cause.RESOURCE_CONTROL_POLICY),
    ("session policy", Cause.SESSION_POLICY),
    ("permissions boundary", Cause.PERMISSIONS_BOUNDARY),
    ("no resource-based policy allows", Cause.KEY_POLICY),
    ("no identity-based policy allows", Cause.ROLE_PERMISSION),
    ("explicit deny", Cause.EXPLICIT_DENY),
)
_ARN = re.compile(r"arn:\S+")
_NOT_FOUND = re.compile(r"(NotFound|NotFoundException|NotFoundFault|NoSuch\w+|DoesNotExist\w*)$")


FIXES = {
    Cause.UNREACHABLE: "check aws.region, aws.endpoint_url, the proxy and the network, then run again",
    Cause.INVALID_RESPONSE: "check aws.endpoint_url and the proxy, then run again",
    Cause.UNSUPPORTED: "check aws.region and aws.endpoint_url, then run again",
    Cause.THROTTLED: "run again later",
    Cause.SERVICE_ERROR: "run again later",
    Cause.DEADLINE: "run again later, or raise crawl.call_deadline",
}
"""What helps against a failure that the configuration does not explain, by its cause."""


class RequiredCallError(UserError):
    """A call failed without which there is nothing to crawl. The same configuration may succeed later."""

    exit_code = 4

    def __init__(self, consequence: str, error: AwsError) -> None:
        fix = FIXES.get(error.cause, "correct what the message of AWS names, then run again")
        reason = error.message
        if error.cause is not Cause.INVALID_RESPONSE:
            reason = f"{error.cause.text} ({error.code}: {error.message})"
        super().__init__(f"{consequence}: {reason}: {fix}")


class AwsError(Exception):
    """A failed call: its ``cause``, and AWS's own ``code`` and ``message``."""

    def __init__(self, cause: Cause, code: str, message: str, retries: int = 0) -> None:
        self.cause = cause
        self.code = code[:CODE_LIMIT]
        self.message = message[:MESSAGE_LIMIT]
        super().__init__(f"{self.code}: {self.message}")
        self.retries = retries
        """Retries before the call was given up."""

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later in this run."""
        return self.cause in RETRYABLE


def gap_row(account_id: str, region: str, operation: Operation, subject: str, error: AwsError) -> dict[str, str]:
    """Return a row of :class:`models.tables.runs.Gap`; ``subject`` is an ARN or a name, empty for a whole listing."""
    return {
        "account_id": account_id,
        "region": region,
        "service": operation.service,
        "operation": operation.name,
        "subject": subject,
        "action": operation.iam_action,
        "cause": str(error.cause),
        "code": error.code,
        "message": error.message,
    }


def classify(code: str, message: str, status: int | None) -> Cause:
    """Return the cause of an error response from its code, message and HTTP status."""
    if code in THROTTLE_CODES or status == 429:
        return Cause.THROTTLED
    if code in EXPIRED_CODES:
        return Cause.EXPIRED
    if code in REGION_CODES:
        return Cause.REGION_DISABLED
    if code in DENIED_CODES:
        return _denial(message)
    if code in CREDENTIAL_CODES:
        return Cause.CREDENTIALS
    if code in TRANSIENT_CODES:
        return Cause.SERVICE_ERROR
    if code in UNSUPPORTED_CODES or status == 501:
        return Cause.UNSUPPORTED
    if _NOT_FOUND.search(code):
        return Cause.NOT_FOUND
    if status is not None and status >= 500:
        return Cause.SERVICE_ERROR
    if status == 403:
        return _denial(message)
    return Cause.REJECTED


def classify_assume_role(code: str, message: str, status: int | None) -> Cause:
    """Return the cause of a failed AssumeRole call.

    STS returns the same denial for a role that does not exist and for one that does not trust the caller, to prevent probing
    for roles; only a detailed message distinguishes the two.
    """
    cause = classify(code, message, status)
    # Ignore ARNs: a role may be named "closed-accounts".
    lowered = _ARN.sub("", message.lower())
    if "suspended" in lowered or "closed" in lowered:
        return Cause.ACCOUNT_SUSPENDED
    if "externalid" in lowered or "external id" in lowered:
        return Cause.EXTERNAL_ID
    assume_role_causes = {
        Cause.DENIED: Cause.ROLE_MISSING_OR_UNTRUSTED,
        Cause.KEY_POLICY: Cause.TRUST,
        Cause.ROLE_PERMISSION: Cause.ASSUME_ROLE_PERMISSION,
        Cause.NOT_FOUND: Cause.ROLE_MISSING_OR_UNTRUSTED,
    }
    return assume_role_causes.get(cause, cause)


def _denial(message: str) -> Cause:
    lowered = message.lower()
    for phrase, cause in _DENIALS:
        if phrase in lowered:
            return cause
    return Cause.DENIED
