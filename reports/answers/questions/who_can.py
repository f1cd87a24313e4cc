"""Show who can use a key or read a secret, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import AS_OF
from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.who_can_result import Answer

_KEY = ("key_arn", "key_name", "key_state", "role")
_PRINCIPAL = (
    *("principal", "principal_type", "account_id", "account_name", "party", "access", "answer", "message", "reason"),
    *("operations", "access_paths", "resource_access_paths"),
)


def _rows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    unknown = dict.fromkeys(_PRINCIPAL) | {"answer": "unknown"}
    for key in document["keys"]:
        for principal in (*key["principals"], *(unknown | {"reason": reason} for reason in key["unknown"])):
            yield key | principal


@question(AS_OF, click.argument("operation"), click.argument("target"), columns=(*_KEY, *_PRINCIPAL), rows=_rows)
def who_can(mart: Path, operation: str, target: str, as_of: str | None) -> Answer:
    """Show who can perform OPERATION on TARGET: each principal once, with all its access paths.

    OPERATION is a KMS operation (decrypt, kms:GenerateDataKey ..., in any letter case), `use` for any use of the key, or
    `administer` for changing the key or who may use it. TARGET is a key (ARN, ID, alias), a secret, a database, a cache or a
    bucket (name or ARN). For a secret, `decrypt` and `use` mean reading the secret.

    Exit codes: 0 answered; 2 unknown or ambiguous operation or target; 3 answered, but a part of the answer is unknown.

    JSON has `format`, `as_of`, `question`, `target`, `target_type`, `operations`, `notes`, and `keys`: each with key_arn,
    key_name, key_state, role, `unknown` and `principals` (principal, principal_type, account_id, account_name, party, access,
    answer, message, reason, operations, access_paths, resource_access_paths). An answer is yes, conditional (on IAM policies
    that were not collected), unknown or unused (no such principal exists). CSV has one row per key and principal, and one per
    reason that something is unknown.
    """
    from reports.answers.who_can import who_can as find_principals

    return find_principals(mart, operation, target, as_of=as_of)
