"""What was discovered of the organization, as facts; what could not be learned keeps its last known value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Engine

from crawler.discovery import FoundAccount, FoundRegion, Organization
from crawler.gaps import gap_row
from crawler.writer import ORGANIZATION
from models.store.engine import translate_errors
from models.store.scd2_merge import Batch, open_rows
from models.tables.keys import Tag
from models.tables.organization import Account, AccountRegion
from models.tables.runs import Gap


class Accounts(NamedTuple):
    """The accounts as facts: those that left included, what could not be learned counted."""

    batch: Batch
    gaps: int
    left: tuple[str, ...]
    """Accounts that the ledger knows and a complete listing no longer shows."""


def account_batch(engine: Engine, found: Organization, home: str) -> Accounts:
    """What was discovered; gaps are filed under the account ``home``."""
    batch = Batch()
    known = _known(engine)
    for account in found.accounts:
        _account(batch, account, known.get(account.account_id))
    left = tuple(sorted(known.keys() - {account.account_id for account in found.accounts})) if found.listed else ()
    for account_id in left:
        values = {name: known[account_id][name] for name in Account.value_columns()}
        batch.add(Account, **{**values, "state": "LEFT", "selection": "left"})
    for operation, subject, error in found.gaps:
        batch.add(Gap, **gap_row(home, ORGANIZATION, operation, subject, error))
    batch.mark_complete(Gap, home, ORGANIZATION)
    return Accounts(batch, len(found.gaps), left)


def region_batch(batch: Batch, account_id: str, regions: Iterable[FoundRegion]) -> None:
    """The regions of one account."""
    for region in regions:
        batch.add(
            AccountRegion, account_id=account_id, region=region.region, status=region.status, selection=region.selection
        )
    batch.mark_complete(AccountRegion, account_id)


def _account(batch: Batch, account: FoundAccount, known: dict[str, Any] | None) -> None:
    placed = account.placed or known is None
    path = "/" + "/".join(account.ou_names[1:]) if account.ou_names else None
    batch.add(
        Account,
        account_id=account.account_id,
        name=account.name,
        email=account.email,
        arn=account.arn,
        state=account.state,
        ou_path=path if placed or known is None else known["ou_path"],
        ou_ids="/".join(account.ou_ids) or None if placed or known is None else known["ou_ids"],
        joined_at=account.joined_at,
        is_management=account.is_management,
        selection=account.selection,
    )
    if account.tags is not None and account.arn:
        for key, value in account.tags.items():
            batch.add(Tag, resource_arn=account.arn, tag_key=key, tag_value=value)
        batch.mark_complete(Tag, account.arn)


def _known(engine: Engine) -> dict[str, dict[str, Any]]:
    with translate_errors(engine), engine.connect() as connection:
        rows = connection.execute(open_rows(Account)).mappings()
        return {row["account_id"]: dict(row) for row in rows}
