"""The condition keys: which operations carry them, and what determines their value.

From the KMS developer guide ("AWS KMS condition keys") and the IAM user guide ("AWS global condition context keys").
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from reports.access.engine.kms_actions import ALL, CRYPTO_MASK, SYMMETRIC_MASK, mask


class Source(Enum):
    """Where the value of a condition key comes from."""

    CALLER = "the caller"
    KEY = "the KMS key"
    REQUEST = "the caller's choice"
    SERVICE = "an AWS service that acts on behalf of the caller"
    NETWORK = "the network from which the request originates"
    DEPUTY = "the resource on whose behalf a service calls"
    CLOCK = "the time"
    UNKNOWN = "unknown"


MULTIPLE = frozenset(
    {
        "aws:calledvia",
        "aws:principalorgpaths",
        "aws:principalservicenameslist",
        "aws:resourceorgpaths",
        "aws:sourceorgpaths",
        "aws:tagkeys",
        "aws:vpceorgpaths",
        "kms:encryptioncontextkeys",
        "kms:grantoperations",
        "kms:resourcealiases",
    }
)
"""Multivalued keys."""

_GRANT = mask({"CreateGrant"})
_GRANTS = mask({"CreateGrant", "ListGrants", "RevokeGrant"})
_CONTEXT = SYMMETRIC_MASK | _GRANT
_PAIRS = mask({"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"})
_ATTESTED = mask({"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"})
_TAGGING = mask({"CreateKey", "ReplicateKey", "TagResource", "UntagResource"})

_OPERATIONS = {
    "kms:encryptioncontextkeys": _CONTEXT,
    "kms:encryptionalgorithm": SYMMETRIC_MASK,
    "kms:reencryptonsamekey": mask({"ReEncryptFrom", "ReEncryptTo"}),
    "kms:signingalgorithm": mask({"Sign", "Verify"}),
    "kms:messagetype": mask({"Sign", "Verify"}),
    "kms:macalgorithm": mask({"GenerateMac", "VerifyMac"}),
    "kms:keyagreementalgorithm": mask({"DeriveSharedSecret"}),
    "kms:datakeypairspec": _PAIRS,
    "kms:requestalias": CRYPTO_MASK | mask({"DescribeKey", "GetPublicKey"}),
    "kms:grantisforawsresource": _GRANTS,
    "kms:grantoperations": _GRANT,
    "kms:grantconstrainttype": _GRANT,
    "kms:grantconstraintsourcearn": _GRANT,
    "kms:granteeprincipal": _GRANT,
    "kms:granteeserviceprincipal": _GRANT,
    "kms:retiringprincipal": _GRANT,
    "kms:retiringserviceprincipal": _GRANT,
    "kms:bypasspolicylockoutsafetycheck": mask({"CreateKey", "PutKeyPolicy"}),
    "kms:expirationmodel": mask({"ImportKeyMaterial"}),
    "kms:validto": mask({"ImportKeyMaterial"}),
    "kms:wrappingalgorithm": mask({"GetParametersForImport"}),
    "kms:wrappingkeyspec": mask({"GetParametersForImport"}),
    "kms:primaryregion": mask({"UpdatePrimaryRegion"}),
    "kms:replicaregion": mask({"ReplicateKey"}),
    "kms:rotationperiodindays": mask({"EnableKeyRotation"}),
    "kms:schedulekeydeletionpendingwindowindays": mask({"ScheduleKeyDeletion"}),
    "aws:tagkeys": _TAGGING,
}
_OPERATIONS_OF_PREFIX = {
    "kms:encryptioncontext:": _CONTEXT,
    "kms:recipientattestation:": _ATTESTED,
    "aws:requesttag/": _TAGGING,
}

_SOURCES = {
    Source.CALLER: {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:principalservicename",
        "aws:principalservicenameslist",
        "aws:principaltype",
        "aws:userid",
        "aws:username",
        "kms:calleraccount",
    },
    Source.KEY: {
        "aws:requestedregion",
        "aws:resourceaccount",
        "aws:resourceorgid",
        "aws:resourceorgpaths",
        "aws:securetransport",
        "kms:customermasterkeyspec",
        "kms:customermasterkeyusage",
        "kms:keyorigin",
        "kms:keyspec",
        "kms:keyusage",
        "kms:multiregion",
        "kms:multiregionkeytype",
        "kms:resourcealiases",
    },
    Source.SERVICE: {
        "aws:calledvia",
        "aws:calledviafirst",
        "aws:calledvialast",
        "aws:viaawsservice",
        "kms:grantisforawsresource",
        "kms:viaservice",
    },
    Source.NETWORK: {
        "aws:ec2instancesourceprivateipv4",
        "aws:ec2instancesourcevpc",
        "aws:sourceip",
        "aws:sourcevpc",
        "aws:sourcevpcarn",
        "aws:sourcevpce",
        "aws:vpceaccount",
        "aws:vpceorgid",
        "aws:vpceorgpaths",
        "aws:vpcsourceip",
    },
    Source.DEPUTY: {"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths"},
    Source.CLOCK: {"aws:currenttime", "aws:epochtime"},
    Source.REQUEST: {
        "aws:federatedprovider",
        "aws:multifactorauthage",
        "aws:multifactorauthpresent",
        "aws:referer",
        "aws:sourceidentity",
        "aws:tokenissuetime",
        "aws:useragent",
        "ec2:sourceinstancearn",
        "lambda:sourcefunctionarn",
        *_OPERATIONS,
    }
    - {"kms:grantisforawsresource"},
}
_SOURCE = {key: source for source, keys in _SOURCES.items() for key in keys}
_SOURCE_OF_PREFIX = {
    "aws:principaltag/": Source.REQUEST,
    "aws:requesttag/": Source.REQUEST,
    "aws:resourcetag/": Source.KEY,
    "kms:encryptioncontext:": Source.REQUEST,
    "kms:recipientattestation:": Source.REQUEST,
}

IDENTITY = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceorgid",
        "aws:sourceorgpaths",
        "aws:userid",
        "kms:calleraccount",
    }
)
"""Keys that policies use to restrict who may call."""


@lru_cache(maxsize=16_384)
def source(key: str) -> Source:
    """Return what determines the value of a key (lower case)."""
    exact = _SOURCE.get(key)
    if exact is not None:
        return exact
    return next((value for prefix, value in _SOURCE_OF_PREFIX.items() if key.startswith(prefix)), Source.UNKNOWN)


@lru_cache(maxsize=16_384)
def carried_by(key: str) -> int:
    """Return the operations whose requests carry a key; all operations for a global or unknown key."""
    exact = _OPERATIONS.get(key)
    if exact is not None:
        return exact
    return next((value for prefix, value in _OPERATIONS_OF_PREFIX.items() if key.startswith(prefix)), ALL)
