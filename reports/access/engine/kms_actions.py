"""The actions of AWS KMS: which a key policy decides, which work from another account, which a grant can carry.

From the KMS API reference ("Cross-account use", "Required permissions") and the model's GrantOperation list. A set of
operations is an ``int`` with one bit an operation, because an analysis does little else than intersect such sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from reports.access.engine.wildcards import matches

SYMMETRIC = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
    }
)
"""What takes an encryption context, on a symmetric encryption key."""
CRYPTO = SYMMETRIC | {
    "Decapsulate",
    "DeriveSharedSecret",
    "Encapsulate",
    "GenerateMac",
    "Sign",
    "Verify",
    "VerifyMac",
}
"""Use of the key material."""
GRANTABLE = CRYPTO | {"CreateGrant", "DescribeKey", "GetPublicKey", "RetireGrant"}
"""What a grant can carry."""
CROSS_ACCOUNT = GRANTABLE | {"GetKeyRotationStatus", "ListGrants", "RevokeGrant"}
"""What has an effect when the caller's account is not the key's."""
KEY_LEVEL = CROSS_ACCOUNT | {
    "CancelKeyDeletion",
    "CreateAlias",
    "DeleteAlias",
    "DeleteImportedKeyMaterial",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "GetKeyLastUsage",
    "GetKeyPolicy",
    "GetParametersForImport",
    "ImportKeyMaterial",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListResourceTags",
    "PutKeyPolicy",
    "ReplicateKey",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "SynchronizeMultiRegionKey",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
}
"""What acts on one key."""
BY_POLICY = KEY_LEVEL - {"RetireGrant"}
"""What a key policy decides: who retires a grant is said by the grant."""
ACCOUNT_LEVEL = frozenset(
    {
        "ConnectCustomKeyStore",
        "CreateCustomKeyStore",
        "CreateKey",
        "DeleteCustomKeyStore",
        "DescribeCustomKeyStores",
        "DisconnectCustomKeyStore",
        "GenerateRandom",
        "ListAliases",
        "ListKeys",
        "ListRetirableGrants",
        "UpdateCustomKeyStore",
    }
)
"""What acts on no key; a key policy says nothing about it."""

# A key's usage excludes the operations of the other usages (KMS developer guide, key type reference).
_SIGN, _MAC = frozenset({"Sign", "Verify"}), frozenset({"GenerateMac", "VerifyMac"})
_BY_USAGE = {
    "ENCRYPT_DECRYPT": SYMMETRIC,
    "SIGN_VERIFY": _SIGN,
    "GENERATE_VERIFY_MAC": _MAC,
    "KEY_AGREEMENT": frozenset({"DeriveSharedSecret"}),
}
_ASYMMETRIC_ENCRYPTION = frozenset({"Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo"})

NAMES = tuple(sorted(KEY_LEVEL | ACCOUNT_LEVEL))
_BIT = {name: 1 << index for index, name in enumerate(NAMES)}
_LOWER = {name.lower(): name for name in NAMES}


def mask(names: Iterable[str]) -> int:
    """The set of these operations (names without prefix, as AWS writes them)."""
    return sum({_BIT[name] for name in names})


ALL = (1 << len(NAMES)) - 1
BY_POLICY_MASK = mask(BY_POLICY)
CROSS_ACCOUNT_MASK = mask(CROSS_ACCOUNT)
GRANTABLE_MASK = mask(GRANTABLE)
SYMMETRIC_MASK = mask(SYMMETRIC)
CRYPTO_MASK = mask(CRYPTO)


def bit(name: str) -> int:
    """The set of one operation; 0 when there is no such operation. Accepts ``kms:decrypt`` as well."""
    return _BIT.get(_LOWER.get(name.lower().removeprefix("kms:"), ""), 0)


@lru_cache(maxsize=65_536)
def names(operations: int) -> tuple[str, ...]:
    """Operations as ``kms:Name``, sorted."""
    return tuple(f"kms:{name}" for name, one in _BIT.items() if operations & one)


@lru_cache(maxsize=65_536)
def matching(actions: tuple[str, ...], *, negated: bool = False) -> int:
    """The operations that an Action element names (or, negated, a NotAction element leaves): any letter case, wildcards."""
    found = 0
    for action in actions:
        found |= _matching(action.lower())
    return ALL & ~found if negated else found


@lru_cache(maxsize=65_536)
def _matching(action: str) -> int:
    if not action.strip("*:"):
        return ALL if "*" in action else 0
    service, colon, name = action.partition(":")
    if not colon or service != "kms":
        return 0
    if "*" not in name and "?" not in name:
        return _BIT.get(_LOWER.get(name, ""), 0)
    return sum(_BIT[written] for lower, written in _LOWER.items() if matches(name, lower))


@lru_cache(maxsize=65_536)
def unknown_names(actions: tuple[str, ...]) -> tuple[str, ...]:
    """Actions that name one KMS operation, and none that is known here."""
    return tuple(
        action
        for action in actions
        if action.lower().startswith("kms:")
        and "*" not in action
        and "?" not in action
        and not _matching(action.lower())
    )


def supported(key_spec: str | None, key_usage: str | None) -> int:
    """The operations that a key of this spec and usage can take part in; what is not known restricts nothing."""
    if key_usage not in _BY_USAGE:
        return ALL
    usable = _BY_USAGE[key_usage]
    symmetric = key_spec == "SYMMETRIC_DEFAULT"
    if key_usage == "ENCRYPT_DECRYPT" and key_spec is not None and not symmetric:
        usable = _ASYMMETRIC_ENCRYPTION
    refused = CRYPTO - usable
    if symmetric or key_usage == "GENERATE_VERIFY_MAC":
        refused |= {"GetPublicKey"}
    return ALL & ~mask(refused)
