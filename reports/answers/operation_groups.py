"""What people ask about: one operation of KMS, any use of a key, its administration."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from reports.access.engine.kms_actions import ACCOUNT_LEVEL, CRYPTO, KEY_LEVEL, bit, names
from reports.mart.errors import QueryError
from reports.mart.result_writers import printable

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
"""What changes a key or who may use it: PutKeyPolicy, CreateGrant, ScheduleKeyDeletion ..."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The operations in question."""

    word: str
    """As it is told: ``kms:Decrypt``, ``use``, ``administer``."""
    operations: tuple[str, ...]
    """``kms:Name``, sorted."""

    @property
    def phrase(self) -> str:
        """For a sentence: who can ... the key."""
        return {"use": "use", "administer": "administer"}.get(self.word, f"{self.word} with")


def wanted(text: str) -> Wanted:
    """The operation that is meant, in any letter case, with or without ``kms:``; ``use`` and ``administer`` are groups.

    Raises QueryError (exit code 2) for what is no operation on a key.
    """
    word = text.strip().lower()
    groups = {"use": CRYPTO, "administer": ADMINISTRATION}
    if word in groups:
        return Wanted(word, tuple(sorted(f"kms:{name}" for name in groups[word])))
    found = names(bit(word))
    if found and found[0].removeprefix("kms:") not in ACCOUNT_LEVEL:
        return Wanted(found[0], found)
    if found:
        raise QueryError(f"{found[0]} acts on no key: ask about an operation on a key, such as kms:Decrypt")
    known = {name.lower(): name for name in KEY_LEVEL} | {"reencrypt": "ReEncryptFrom"}
    near = difflib.get_close_matches(word.removeprefix("kms:"), known, n=3)
    hint = (
        f"did you mean {' or '.join(known[one] for one in near)}?"
        if near
        else "ask about decrypt, sign, use or administer"
    )
    raise QueryError(f"{printable(text)!r} is no operation of KMS on a key: {hint}")
