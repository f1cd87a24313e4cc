"""Show which keys a principal or account can use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import AS_OF
from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.accessible_keys import AccessibleKeys

_KEY = ("key_arn", "key_alias", "account_id", "account_name", "region", "key_state", "dependent_count")
_PATH = (
    *("access", "principal", "path", "source_id", "operations", "conditions", "needs_iam", "answer"),
    *("identity_policies", "reason", "message"),
)


def _rows(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in document["keys"]:
        for path in key["access_paths"]:
            yield dict.fromkeys(_PATH) | path | {name: key[name] for name in _KEY}


@question(AS_OF, click.argument("principal"), columns=(*_KEY, *_PATH), rows=_rows)
def what_can(mart: Path, principal: str, as_of: str | None) -> AccessibleKeys:
    """Show which keys PRINCIPAL can use in the organization, with the access paths and the dependents of each key.

    PRINCIPAL is an account (ID or name), the ARN or name of a user or role, the ARN of a session, or a service. Where IAM was
    collected, the policies of users and roles are evaluated. Keys that anyone can use are counted, not listed; those
    of other accounts need IAM policies that allow it, which are evaluated where they were collected.

    Exit codes: 0 answered; 2 unknown or ambiguous principal; 3 answered, but a part of the answer is unknown.

    JSON has `format`, `as_of`, `principal`, `principal_type`, `unknown`, `public_keys`, `notes`, and `keys`: each with key_arn,
    key_alias, account_id, account_name, region, key_state, dependent_count, dependents and `access_paths` (access, principal,
    principal_account, party, operations, path, source_id, conditions, needs_iam, reason, message, alternative_paths, since_run,
    since, answer and identity_policies). CSV has one row per key and access path.
    """
    from reports.answers.accessible_keys import accessible_keys

    return accessible_keys(mart, principal, as_of=as_of)
