"""Maps the discovered accounts and regions to facts; attributes that could not be read keep their last known value."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Engine

from crawler.aws.errors import gap_row
from crawler.discovery import FoundAccount, FoundRegion, Organization
from crawler.writer import ORGANIZATION
from models.store.engine import translate_errors
from models.store.scd2_merge import Batch, open_rows
from models.tables.keys import Tag
from models.tables.organization import Account, AccountRegion
from models.tables.runs import Gap


class Accounts(NamedTuple):
    """The facts of all accounts, the number of gaps, and the accounts that left."""

    batch: Batch
    gaps: int
    left: tuple[str, ...]
    """Accounts in the ledger that a complete listing no longer contains."""


def account_batch(engine: Engine, organization: Organization, home: str, only: Collection[str] = ()) -> Accounts:
    """Return the facts of a discovered organization; its gaps are recorded under the account ``home``.

    With ``only``, they are the facts of these accounts and of those that the ledger does not know.
    """
    batch = Batch()
    known = _known_accounts(engine)
    if only:
        for account in organization.accounts:
            if account.account_id in only or account.account_id not in known:
                _add_account(batch, account, known.get(account.account_id))
        return Accounts(batch, 0, ())
    for account in organization.accounts:
        _add_account(batch, account, known.get(account.account_id))
    listed = {account.account_id for account in organization.accounts}
    left = tuple(sorted(known.keys() - listed)) if organization.is_complete else ()
    for account_id in left:
        values = {name: known[account_id][name] for name in Account.value_columns()}
        batch.add(Account, **{**values, "state": "LEFT", "selection": "left"})
    for operation, subject, error in organization.gaps:
        batch.add(Gap, **gap_row(home, ORGANIZATION, operation, subject, error))
    batch.mark_complete(Gap, home, ORGANIZATION)
    return Accounts(batch, len(organization.gaps), left)


def region_batch(batch: Batch, account_id: str, regions: Iterable[FoundRegion]) -> None:
    """Add the regions of an account to a batch."""
    for region in regions:
        batch.add(
            AccountRegion, account_id=account_id, region=region.region, status=region.status, selection=region.selection
        )
    batch.mark_complete(AccountRegion, account_id)


def _add_account(batch: Batch, account: FoundAccount, known: dict[str, Any] | None) -> None:
    use_discovered_ou = account.has_ou_path or known is None
    path = "/" + "/".join(account.ou_names[1:]) if account.ou_names else None
    batch.add(
        Account,
        account_id=account.account_id,
        name=account.name,
        email=account.email,
        arn=account.arn,
        state=account.state,
        ou_path=path if use_discovered_ou or known is None else known["ou_path"],
        ou_ids="/".join(account.ou_ids) or None if use_discovered_ou or known is None else known["ou_ids"],
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
