"""Operation groups: one KMS operation, any use of a key, or its administration."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from models.safe_text import printable
from reports.access.engine.kms_actions import ACCOUNT_LEVEL, CRYPTO, KEY_LEVEL, bit, names
from reports.mart.errors import QueryError

ADMINISTRATION = (
    KEY_LEVEL
    - CRYPTO
    - {
        "DescribeKey",
        "GetKeyLastUsage",
        "GetKeyPolicy",
        "GetKeyRotationStatus",
        "GetParametersForImport",
        "GetPublicKey",
        "ListGrants",
        "ListKeyPolicies",
        "ListKeyRotations",
        "ListResourceTags",
        "RetireGrant",
    }
)
"""Operations that change a key or the access to it: PutKeyPolicy, CreateGrant, ScheduleKeyDeletion ..."""


@dataclass(frozen=True, slots=True)
class OperationGroup:
    """One or more KMS operations under one name."""

    name: str
    """``kms:Decrypt``, ``use``, ``administer``."""
    operations: tuple[str, ...]
    """``kms:Name``, sorted."""

    @property
    def phrase(self) -> str:
        """The verb phrase of ``who can ... the key``."""
        return {"use": "use", "administer": "administer"}.get(self.name, f"{self.name} with")


def parse_operations(text: str) -> OperationGroup:
    """The operation with this name, in any letter case, with or without ``kms:``; ``use`` and ``administer`` are groups.

    Raises QueryError (exit code 2) if no operation on a key has this name.
    """
    name = text.strip().lower()
    groups = {"use": CRYPTO, "administer": ADMINISTRATION}
    if name in groups:
        return OperationGroup(name, tuple(sorted(f"kms:{operation}" for operation in groups[name])))
    operations = names(bit(name))
    if operations and operations[0].removeprefix("kms:") not in ACCOUNT_LEVEL:
        return OperationGroup(operations[0], operations)
    if operations:
        raise QueryError(f"{operations[0]} does not act on a key: name an operation on a key, such as kms:Decrypt")
    known = {operation.lower(): operation for operation in KEY_LEVEL} | {"reencrypt": "ReEncryptFrom"}
    near = difflib.get_close_matches(name.removeprefix("kms:"), known, n=3)
    hint = (
        f"did you mean {' or '.join(known[candidate] for candidate in near)}?"
        if near
        else "use decrypt, sign, use, administer or another KMS operation on keys"
    )
    raise QueryError(f"{printable(text)!r} is not a KMS operation on a key: {hint}")
