"""What AWS's own words mean: one table, from error answers as services send them."""

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

ANSWERS: list[tuple[str, str, int | None, Cause]] = [
    # Denials, as AWS explains them
    ("AccessDeniedException", DENIED + NO.format("resource-based policy"), 400, Cause.KEY_POLICY),
    ("AccessDeniedException", DENIED + NO.format("identity-based policy"), 400, Cause.ROLE_PERMISSION),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} service control policy", 400, Cause.SERVICE_CONTROL_POLICY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} resource control policy", 400, Cause.RESOURCE_CONTROL_POLICY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT} resource-based policy", 400, Cause.EXPLICIT_DENY),
    ("AccessDeniedException", DENIED + f"{EXPLICIT}n identity-based policy", 400, Cause.EXPLICIT_DENY),
    ("AccessDeniedException", DENIED + NO.format("session policy"), 400, Cause.SESSION_POLICY),
    ("AccessDeniedException", DENIED + NO.format("permissions boundary"), 400, Cause.PERMISSIONS_BOUNDARY),
    ("AccessDenied", "CredentialProvider Denied", 403, Cause.DENIED),
    ("UnauthorizedOperation", "You are not authorized to perform this operation.", 403, Cause.DENIED),
    ("AccessDeniedException", "", 400, Cause.DENIED),
    ("SomethingNew", "no", 403, Cause.DENIED),
    # Too fast
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
    # Gone in the meantime
    ("NotFoundException", f"Key '{KEY}' does not exist", 400, Cause.NOT_FOUND),
    ("NoSuchBucket", "The specified bucket does not exist", 404, Cause.NOT_FOUND),
    ("ReplicationGroupNotFoundFault", "", 404, Cause.NOT_FOUND),
    ("CacheClusterNotFound", "", 404, Cause.NOT_FOUND),
    # The service's own trouble
    ("KMSInternalException", "", 500, Cause.SERVICE_ERROR),
    ("DependencyTimeoutException", "", 500, Cause.SERVICE_ERROR),
    ("InternalError", "We encountered an internal error. Please try again.", 500, Cause.SERVICE_ERROR),
    ("ServiceUnavailable", "", 503, Cause.SERVICE_ERROR),
    ("SomethingNew", "", 502, Cause.SERVICE_ERROR),
    # The question was refused
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
    # A name is not a reason
    ("AccessDenied", NOT_ASSUMED.replace("KmsInventoryReadOnly", "of-closed-and-suspended"), Cause.ROLE_MISSING_OR_UNTRUSTED),
    ("AccessDenied", NOT_ASSUMED.replace("kmsledger/crawl", "externalid/crawl"), Cause.ROLE_MISSING_OR_UNTRUSTED),
]  # fmt: skip


@pytest.mark.parametrize(("code", "message", "status", "cause"), ANSWERS)
def test_every_answer_has_its_cause(code: str, message: str, status: int | None, cause: Cause) -> None:
    """A report can say why something is not known: who decides, and whether it is ours to mend."""
    assert classify(code, message, status) is cause


@pytest.mark.parametrize(("code", "message", "cause"), ROLES)
def test_why_a_role_could_not_be_assumed(code: str, message: str, cause: Cause) -> None:
    """Trust, own permission, external id and a missing role are told apart as far as STS lets anybody."""
    assert classify_assume_role(code, message, None) is cause


def test_only_what_may_pass_is_tried_again() -> None:
    """Throttling, failures of the service and of the network are worth a retry; a denial never is."""
    retried = {cause for cause in Cause if AwsError(cause, "Code", "").retryable}
    assert retried == {Cause.THROTTLED, Cause.SERVICE_ERROR, Cause.UNREACHABLE}


def test_every_cause_is_worded() -> None:
    """No cause lacks its words for people, and a message of any length is kept short."""
    assert all(cause.text for cause in Cause)
    assert len(AwsError(Cause.REJECTED, "Code", "x" * 5000).message) == MESSAGE_LIMIT
