"""Maps the discovered accounts and regions to facts; attributes that could not be read keep their last known value."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Engine

from crawler.aws.errors import gap_row
from crawler.discovery import FoundAccount, FoundRegion, Organization
from crawler.writer import ORGANIZATION
from models.store.engine import translate_errors
from models.store.scd2_merge import Batch, open_rows
from models.tables.keys import Tag
from models.tables.organization import Account, AccountRegion
from models.tables.runs import Gap


def account_batch(
    engine: Engine, organization: Organization, home: str, only: Collection[str] = ()
) -> tuple[Batch, int, tuple[str, ...]]:
    """Return the facts of a discovered organization, the number of gaps, and the accounts that left.

    Gaps are recorded under the account ``home``. Accounts in the ledger that a complete listing no longer contains have left.
    With ``only``, the facts are those of these accounts and of those that the ledger does not know.
    """
    batch = Batch()
    known = _known_accounts(engine)
    for account in organization.accounts:
        if not only or account.account_id in only or account.account_id not in known:
            _add_account(batch, account, known.get(account.account_id))
    if only:
        return batch, 0, ()
    listed = {account.account_id for account in organization.accounts}
    left = tuple(sorted(known.keys() - listed)) if organization.is_complete else ()
    for account_id in left:
        values = {name: known[account_id][name] for name in Account.value_columns()}
        batch.add(Account, **{**values, "state": "LEFT", "selection": "left"})
    for operation, subject, error in organization.gaps:
        batch.add(Gap, **gap_row(home, ORGANIZATION, operation, subject, error))
    batch.mark_complete(Gap, home, ORGANIZATION)
    return batch, len(organization.gaps), left


def region_batch(batch: Batch, account_id: str, regions: Iterable[FoundRegion]) -> None:
    """Add the regions of an account to a batch."""
    for region in regions:
        batch.add(
            AccountRegion, account_id=account_id, region=region.region, status=region.status, selection=region.selection
        )
    batch.mark_complete(AccountRegion, account_id)


def _add_account(batch: Batch, account: FoundAccount, known: dict[str, Any] | None) -> None:
    ou_path = "/" + "/".join(account.ou_names[1:]) if account.ou_names else None
    ou_ids = "/".join(account.ou_ids) or None
    if known is not None and not account.has_ou_path:
        ou_path, ou_ids = known["ou_path"], known["ou_ids"]
    batch.add(
        Account,
        account_id=account.account_id,
        name=account.name,
        email=account.email,
        arn=account.arn,
        state=account.state,
        ou_path=ou_path,
        ou_ids=ou_ids,
        joined_at=account.joined_at,
        is_management=account.is_management,
        selection=account.selection,
    )
    if account.tags is not None and account.arn:
        for key, value in account.tags.items():
            batch.add(Tag, resource_arn=account.arn, tag_key=key, tag_value=value)
        batch.mark_complete(Tag, account.arn)


def _known_accounts(engine: Engine) -> dict[str, dict[str, Any]]:
    with translate_errors(engine), engine.connect() as connection:
        rows = connection.execute(open_rows(Account)).mappings()
        return {row["account_id"]: dict(row) for row in rows}
