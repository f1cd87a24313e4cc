"""Show which keys external parties can use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.cli_groups import LazyCommand
from models.cli_options import AS_OF
from reports.answers.question import question

if TYPE_CHECKING:
    from reports.answers.vendors import Vendors

_COLUMNS = (
    *("party", "access", "party_accounts", "key_arn", "key_alias", "account_id", "account_name", "region", "key_state"),
    *("principals", "operations", "paths", "conditions", "dependent_count", "dependents", "last_used_at", "last_use"),
    *("fallback_paths", "since_run", "since"),
)


@question(
    AS_OF,
    columns=_COLUMNS,
    rows=lambda document: document["vendors"],
    subcommands={"check": LazyCommand("reports.vendors.cli", "check", "Check keys against vendor profiles.")},
)
def vendors(mart: Path, as_of: str | None) -> Vendors:
    """Show the external parties that can use keys of the organization, and their operations.

    For each party and key: operations, access paths and conditions, the key's dependents, its last use, and for each access
    path whether access remains without it.

    JSON has `format`, `as_of`, `notes` and `vendors`: the columns of view vendors, as in CSV.
    """
    from reports.answers.vendors import vendors as external_parties

    return external_parties(mart, as_of=as_of)
