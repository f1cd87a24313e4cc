"""The classification of AWS errors: one table of error responses as services send them."""

from __future__ import annotations

import pytest

from crawler.aws.errors import MESSAGE_LIMIT, AwsError, classify, classify_assume_role
from models.tables.runs import Cause

ROLE = "arn:aws:iam::111122223333:role/KmsInventoryReadOnly"
CALLER = "arn:aws:sts::999988887777:assumed-role/kmsledger/crawl"
KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
DENIED = f"User: {CALLER} is not authorized to perform: kms:DescribeKey on resource: {KEY} "
NO = "because no {} allows the kms:DescribeKey action"
EXPLICIT = "with an explicit deny in a"

RESPONSES: list[tuple[str, str, int | None, Cause]] = [
    # Denials with AWS's explanation
    ("AccessDeniedException", DENIED + NO.format("resource-based policy"), 400, Cause.KEY_POLICY),
    ("AccessDeniedException", DENIED + NO.format("identity-based policy"), 400, Cause.ROLE_PERMISSION),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} service control policy", 400, Cause.SERVICE_CONTROL_POLICY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} resource control policy", 400, Cause.RESOURCE_CONTROL_POLICY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} resource-based policy", 400, Cause.EXPLICIT_DENY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT}n identity-based policy", 400, Cause.EXPLICIT_DENY),
    ("AccessDeniedException", DENIED + NO.format("session policy"), 400, Cause.SESSION_POLICY),
    ("AccessDeniedException", DENIED + NO.format("permissions boundary"), 400, Cause.PERMISSIONS_BOUNDARY),
    ("AccessDenied", "Access Denied", 403, Cause.DENIED),
    ("UnauthorizedOperation", "You are not authorized to perform this operation.", 403, Cause.DENIED),
    ("AccessDeniedException", "", 400, Cause.DENIED),
    ("SomethingNew", "no", 403, Cause.DENIED),
    # Throttling
    ("ThrottlingException", "Rate exceeded", 400, Cause.THROTTLED),
    ("Throttling", "Rate exceeded", 400, Cause.THROTTLED),
    ("TooManyRequestsException", "AWS Organizations can't complete your request right now", 400, Cause.THROTTLED),
    ("RequestLimitExceeded", "Request limit exceeded.", 503, Cause.THROTTLED),
    ("SlowDown", "Please reduce your request rate.", 503, Cause.THROTTLED),
    ("SomethingNew", "", 429, Cause.THROTTLED),
    # Credentials
    ("ExpiredToken", "The provided token has expired.", 400, Cause.EXPIRED),
    ("ExpiredTokenException", "The security token included in the request is expired", 403, Cause.EXPIRED),
    ("RequestExpired", "Request has expired.", 400, Cause.EXPIRED),
    ("InvalidClientTokenId", "The security token included in the request is invalid.", 403, Cause.CREDENTIALS),
    ("UnrecognizedClientException", "The security token included in the request is invalid.", 400, Cause.CREDENTIALS),
    ("SignatureDoesNotMatch", "Signature expired: 20261101T000000Z is now earlier than ...", 403, Cause.CREDENTIALS),
    ("RequestTimeTooSkewed", "The difference between the request time and the current time is too ...", 403, Cause.CREDENTIALS),
    # Regions
    ("OptInRequired", "You are not subscribed to this service.", 403, Cause.REGION_DISABLED),
    ("RegionDisabledException", "STS is not activated in this region", 403, Cause.REGION_DISABLED),
    # Not offered
    ("UnknownOperationException", "", 400, Cause.UNSUPPORTED),
    ("InvalidAction", "Could not find operation DescribeServerlessCaches for version 2015-02-02", 400, Cause.UNSUPPORTED),
    ("UnsupportedOperationException", f"{KEY} origin is EXTERNAL which is not valid for this operation.", 400, Cause.UNSUPPORTED),
    ("NotImplemented", "A header you provided implies functionality that is not implemented", 501, Cause.UNSUPPORTED),
    # Deleted in the meantime
    ("NotFoundException", f"Key '{KEY}' does not exist", 400, Cause.NOT_FOUND),
    ("NoSuchBucket", "The specified bucket does not exist", 404, Cause.NOT_FOUND),
    ("ReplicationGroupNotFoundFault", "", 404, Cause.NOT_FOUND),
    ("CacheClusterNotFound", "", 404, Cause.NOT_FOUND),
    # Service errors
    ("KMSInternalException", "", 500, Cause.SERVICE_ERROR),
    ("DependencyTimeoutException", "", 500, Cause.SERVICE_ERROR),
    ("InternalError", "We encountered an internal error. Please try again.", 500, Cause.SERVICE_ERROR),
    ("ServiceUnavailable", "", 503, Cause.SERVICE_ERROR),
    ("SomethingNew", "", 502, Cause.SERVICE_ERROR),
    # Rejected requests
    ("ValidationException", "1 validation error detected", 400, Cause.REJECTED),
    ("KMSInvalidStateException", f"{KEY} is pending deletion.", 400, Cause.REJECTED),
    ("PermanentRedirect", "The bucket must be addressed using the specified endpoint.", 301, Cause.REJECTED),
    ("Unknown", "", None, Cause.REJECTED),
]  # fmt: skip

NOT_ASSUMED = f"User: {CALLER} is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
ROLES: list[tuple[str, str, Cause]] = [
    ("AccessDenied", NOT_ASSUMED, Cause.ROLE_MISSING_OR_UNTRUSTED),
    ("AccessDenied", f"{NOT_ASSUMED} because no resource-based policy allows the sts:AssumeRole action", Cause.TRUST),
    (
        "AccessDenied",
        f"{NOT_ASSUMED} because no identity-based policy allows the sts:AssumeRole action",
        Cause.ASSUME_ROLE_PERMISSION,
    ),
    ("AccessDenied", f"{NOT_ASSUMED} {EXPLICIT} service control policy", Cause.SERVICE_CONTROL_POLICY),
    ("AccessDenied", f"{NOT_ASSUMED} with an explicit deny: sts:ExternalId does not match", Cause.EXTERNAL_ID),
    ("AccessDenied", "The account is suspended", Cause.ACCOUNT_SUSPENDED),
    ("RegionDisabledException", "STS is not activated in this region", Cause.REGION_DISABLED),
    ("ThrottlingException", "Rate exceeded", Cause.THROTTLED),
    ("ExpiredToken", "The security token included in the request is expired", Cause.EXPIRED),
    ("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", Cause.REJECTED),
    # Names in ARNs are ignored
    ("AccessDenied", NOT_ASSUMED.replace("KmsInventoryReadOnly", "of-closed-and-suspended"), Cause.ROLE_MISSING_OR_UNTRUSTED),
    ("AccessDenied", NOT_ASSUMED.replace("kmsledger/crawl", "externalid/crawl"), Cause.ROLE_MISSING_OR_UNTRUSTED),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message", "status", "cause"), RESPONSES)
def test_error_responses_are_classified(code: str, message: str, status: int | None, cause: Cause) -> None:
    """The cause shows which policy type or service decided, and who can fix it."""
    assert classify(code, message, status) is cause


@pytest.mark.parametrize(("code", "message", "cause"), ROLES)
def test_assume_role_errors_are_classified(code: str, message: str, cause: Cause) -> None:
    """Trust policy, own permission, external id and a missing role are distinguished as far as STS allows."""
    assert classify_assume_role(code, message, None) is cause


def test_only_transient_errors_are_retryable() -> None:
    """Throttling, service errors and network errors are retryable; a denial never is."""
    retried = {cause for cause in Cause if AwsError(cause, "Code", "").retryable}
    assert retried == {Cause.THROTTLED, Cause.SERVICE_ERROR, Cause.UNREACHABLE}


def test_every_cause_has_a_text() -> None:
    """Every cause has a text for users, and long messages are truncated."""
    assert all(cause.text for cause in Cause)
    assert len(AwsError(Cause.REJECTED, "Code", "x" * 5000).message) == MESSAGE_LIMIT


def test_a_long_error_code_is_cut() -> None:
    """An error code of megabytes is cut, and so is what the exception prints."""
    error = AwsError(Cause.REJECTED, "x" * 5_000_000, "y" * 5_000_000)
    assert (len(error.code), len(error.message)) == (100, 1000)
    assert len(str(error)) < 1200
