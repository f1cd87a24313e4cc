"""Show the crawler's denied calls and their fixes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.cli_options import AS_OF
from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.denials import Denials

CALL_COLUMNS = ("account_id", "region", "role", "action", "subject", "key_alias", "message")


@question(
    AS_OF,
    columns=(*CALL_COLUMNS, "cause", "fix_in", "where", "statement", "certain", "since_run"),
    rows=lambda document: (
        {**denial, **denial["fix"], **call} for denial in document["denials"] for call in denial["denied"]
    ),
)
def denials(mart: Path, as_of: str | None) -> Denials:
    """Show the crawler's denied calls, why they were denied, and the statement that allows them.

    Each fix names the policy that the statement belongs in: a key policy that does not delegate to IAM, a policy of the role,
    a trust policy, or a service control policy. Calls that one statement fixes are grouped.

    Exit codes: 0 no call was denied, 3 calls were denied.

    JSON has `format`, `as_of`, `other_gaps`, `notes`, and `denials`: each with cause, cause_text, fix_in, role, actions,
    accounts, subjects, since_run, fix (where, statement, certain) and denied (the individual calls). CSV has one row per call.
    """
    from models.settings import RoleSettings, load
    from reports.answers.denials import denials as denied_calls

    options = click.get_current_context().params
    role = load(options["config_path"]).role if options["mart_path"] is None else RoleSettings()
    return denied_calls(mart, as_of=as_of, role_name=role.name)
