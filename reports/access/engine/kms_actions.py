"""The actions of AWS KMS: which a key policy controls, which work across accounts, which a grant can contain.

Their names are in kms_actions.json, each in the smallest of the nested sets, from the KMS API reference ("Cross-account
use", "Required permissions") and the GrantOperation list of the API model. A set of operations is an ``int`` with one bit per
operation, because an analysis mostly intersects such sets.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

import orjson

from reports.access.engine.wildcards import has_wildcard, matches

_LISTED: dict[str, list[str]] = orjson.loads(
    resources.files("reports.access.engine").joinpath("kms_actions.json").read_bytes()
)
SYMMETRIC = frozenset(_LISTED["symmetric"])
"""Operations with an encryption context, on a symmetric encryption key."""
CRYPTO = SYMMETRIC.union(_LISTED["crypto"])
"""Operations that use the key material."""
GRANTABLE = CRYPTO.union(_LISTED["grantable"])
"""Operations that a grant can contain."""
CROSS_ACCOUNT = GRANTABLE.union(_LISTED["cross_account"])
"""Operations that work across accounts."""
KEY_LEVEL = CROSS_ACCOUNT.union(_LISTED["key"])
"""Operations on a key."""
ACCOUNT_LEVEL = frozenset(_LISTED["account"])
"""Operations that do not act on a key; a key policy does not control them."""

# A key's usage excludes the operations of the other usages (KMS developer guide, key type reference).
_BY_USAGE = {
    "ENCRYPT_DECRYPT": SYMMETRIC,
    "SIGN_VERIFY": frozenset({"Sign", "Verify"}),
    "GENERATE_VERIFY_MAC": frozenset({"GenerateMac", "VerifyMac"}),
    "KEY_AGREEMENT": frozenset({"DeriveSharedSecret"}),
}
_ASYMMETRIC_ENCRYPTION = frozenset({"Decrypt", "Encrypt", "ReEncryptFrom", "ReEncryptTo"})

NAMES = tuple(sorted(KEY_LEVEL | ACCOUNT_LEVEL))
_BIT = {name: 1 << index for index, name in enumerate(NAMES)}
_LOWER = {name.lower(): name for name in NAMES}


def mask(names: Iterable[str]) -> int:
    """Return the set of these operations (names without prefix, as AWS writes them)."""
    return sum({_BIT[name] for name in names})


ALL = (1 << len(NAMES)) - 1
BY_POLICY_MASK = mask(KEY_LEVEL - {"RetireGrant"})
"""Operations that a key policy controls. The grant itself controls who can retire it."""
CROSS_ACCOUNT_MASK = mask(CROSS_ACCOUNT)
GRANTABLE_MASK = mask(GRANTABLE)
SYMMETRIC_MASK = mask(SYMMETRIC)


def bit(name: str) -> int:
    """Return the set of one operation; 0 for an unknown operation. Accepts ``kms:decrypt`` as well."""
    return _BIT.get(_LOWER.get(name.lower().removeprefix("kms:"), ""), 0)


def representative(operations: int) -> tuple[str, int]:
    """Return the operation that represents a set in a witness: its name and bit; use of the key comes first."""
    preferred = (name for name in ("Decrypt", "PutKeyPolicy", "CreateGrant") if operations & _BIT[name])
    name = next(preferred, NAMES[(operations & -operations).bit_length() - 1])
    return name, _BIT[name]


@lru_cache(maxsize=65_536)
def names(operations: int) -> tuple[str, ...]:
    """Return the operations as ``kms:Name``, sorted."""
    return tuple(f"kms:{name}" for name, value in _BIT.items() if operations & value)


@lru_cache(maxsize=65_536)
def matching(actions: tuple[str, ...], *, negated: bool = False) -> int:
    """Return the operations that an Action element names (negated: that a NotAction element leaves); supports wildcards."""
    named = 0
    for action in actions:
        named |= _matching(action.lower())
    return ALL & ~named if negated else named


@lru_cache(maxsize=65_536)
def _matching(action: str) -> int:
    if not action.strip("*:"):
        return ALL if "*" in action else 0
    service, _, name = action.partition(":")
    if service != "kms":
        return 0
    return sum(_BIT[written] for lower, written in _LOWER.items() if matches(name, lower))


@lru_cache(maxsize=65_536)
def unknown_names(actions: tuple[str, ...]) -> tuple[str, ...]:
    """Return the KMS actions without wildcards that are not a known operation."""
    return tuple(
        action
        for action in actions
        if action.lower().startswith("kms:") and not has_wildcard(action) and not bit(action)
    )


def supported(key_spec: str | None, key_usage: str | None) -> int:
    """Return the operations that a key of this spec and usage supports; an unknown spec or usage restricts nothing."""
    if key_usage not in _BY_USAGE:
        return ALL
    operations_of_usage = _BY_USAGE[key_usage]
    symmetric = key_spec == "SYMMETRIC_DEFAULT"
    if key_usage == "ENCRYPT_DECRYPT" and key_spec is not None and not symmetric:
        operations_of_usage = _ASYMMETRIC_ENCRYPTION
    unsupported = CRYPTO - operations_of_usage
    if symmetric or key_usage == "GENERATE_VERIFY_MAC":
        unsupported |= {"GetPublicKey"}
    return ALL & ~mask(unsupported)
