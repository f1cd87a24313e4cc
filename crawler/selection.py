"""What a run is limited to (`kmsledger crawl --account --region`), and the coverage that it takes over for everything else.

Facts, gaps and findings of accounts and regions that are not part of a run stay as they are: nothing is closed. Their coverage
is that of the latest run that had them, and says which run that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Engine, func, select

from crawler.aws.client import CredentialProvider
from crawler.aws.errors import AwsError
from crawler.discovery import FoundAccount, Organization, Regions
from crawler.spec import GLOBAL
from crawler.worker import Worker
from crawler.writer import ORGANIZATION, WHOLE_ACCOUNT, Coverage
from models.errors import UserError
from models.settings import Settings
from models.store.engine import opened, translate_errors
from models.tables.runs import Outcome, Run, RunStatus, ScopeCoverage

REASON = "not part of the run, which was limited to other accounts or regions"

Carried = dict[str, dict[str, Coverage]]
"""Coverage by account and region."""


class SelectionError(UserError):
    """The run is limited to accounts or regions that it cannot read."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Selection:
    """The accounts and regions that a run is limited to; empty: all of them."""

    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    """Region names; ``global`` is the part of an account that has no region."""

    def __bool__(self) -> bool:
        """Whether the run is limited."""
        return bool(self.accounts or self.regions)

    def has_account(self, account_id: str) -> bool:
        """Whether an account is part of the run."""
        return not self.accounts or account_id in self.accounts

    def has_region(self, region: str) -> bool:
        """Whether a region is part of the run, in the accounts that are."""
        return not self.regions or region in self.regions

    def columns(self) -> dict[str, str | None]:
        """Return the columns of the run that record the limits."""
        return {"only_accounts": ",".join(self.accounts) or None, "only_regions": ",".join(self.regions) or None}


EVERYTHING = Selection()
"""No limits."""


def selection_of(engine: Engine, run_id: int) -> Selection:
    """Return what a run is limited to."""
    with translate_errors(engine), engine.connect() as connection:
        row = connection.execute(select(Run.only_accounts, Run.only_regions).where(Run.run_id == run_id)).one()
    return Selection(*(tuple(names.split(",")) if names else () for names in row))


def limits_of(settings: Settings, run_id: int) -> str:
    """Return what a run was limited to, as a clause; empty if it was not."""
    with opened(settings.database) as engine:
        selection = selection_of(engine, run_id)
    named = [
        f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}"
        for word, names in (("account", selection.accounts), ("region", selection.regions))
        if names
    ]
    return f"limited to {' in '.join(named)}" if named else ""


def check_accounts(selection: Selection, organization: Organization) -> None:
    """Raise :class:`SelectionError` for accounts that the organization does not have, or that are not crawled."""
    found = {account.account_id: account for account in organization.accounts}
    problems = []
    for account_id in selection.accounts:
        account = found.get(account_id)
        if account is None:
            problems.append(f"--account {account_id}: the organization has no such account: correct it")
        elif account.selection == "suspended":
            problems.append(
                f"--account {account_id}: the account is not active (state {account.state}): nothing can be read"
            )
        elif not account.crawled:
            problems.append(
                f"--account {account_id}: the settings exclude the account: correct organization.include or organization.exclude"
            )
    if problems:
        raise SelectionError("\n".join(problems))


async def check_regions(
    selection: Selection, worker: Worker, regions: Regions, accounts: Sequence[FoundAccount]
) -> None:
    """Raise :class:`SelectionError` for regions that none of the accounts has enabled; reads accounts until all are found.

    If an account cannot be entered, the regions may be enabled there: its gap shows what is missing.
    """
    missing = set(selection.regions) - {GLOBAL}
    found: dict[str, str] = {}
    for account in accounts:
        if not missing:
            return
        provider: CredentialProvider = await worker.provider(account.account_id)
        try:
            await provider.credentials()
            listed = await regions.of(account.account_id, provider)
        except AwsError:
            return
        missing -= {region.region for region in listed if region.selection == "crawled"}
        found |= {region.region: region.selection for region in listed}
    fixes = {
        "excluded": "the settings exclude the region: correct regions.include or regions.exclude",
        "disabled": "the region is not enabled in any of the accounts: enable it there",
    }
    problems = [f"--region {region}: {fixes.get(found.get(region, ''), _UNKNOWN)}" for region in sorted(missing)]
    if problems:
        raise SelectionError("\n".join(problems))


_UNKNOWN = "AWS has no such region: correct it"


def carried(
    engine: Engine, run_id: int, selection: Selection, accounts: Iterable[FoundAccount]
) -> tuple[list[Coverage], Carried]:
    """Return the coverage of everything that is not part of a run, and the latest coverage of the accounts that are.

    Their other regions are carried when it is known whether the account can be entered (:func:`other_regions`).
    """
    latest = _latest(engine, run_id)
    rows: list[Coverage] = []
    selected: Carried = {}
    for account_id, regions in latest.items():
        if selection.has_account(account_id):
            selected[account_id] = regions
            rows += [row for region, row in regions.items() if region == ORGANIZATION and selection.accounts]
        else:
            rows += regions.values()
    for account in accounts:
        if account.account_id not in latest and not selection.has_account(account.account_id):
            outcome = Outcome.NOT_IN_RUN if account.crawled else account.selection
            reason = REASON if account.crawled else f"not crawled: {account.selection}"
            rows.append(Coverage(account.account_id, WHOLE_ACCOUNT, str(outcome), reason))
    return rows, selected


def other_regions(
    selection: Selection, account_id: str, known: dict[str, Coverage], regions: Iterable[str]
) -> list[Coverage]:
    """Return the coverage of the regions of an account that are not part of the run; ``regions`` are those to crawl.

    Without any, the account could not be entered: then everything that is known of it is carried.
    """
    names = list(regions)
    if not names:
        return [row for region, row in known.items() if region != ORGANIZATION and region not in selection.regions]
    others = [name for name in names if not selection.has_region(name)]
    unread = Coverage(account_id, WHOLE_ACCOUNT, str(Outcome.NOT_IN_RUN), REASON)
    return [known.get(name) or replace(unread, region=name) for name in others]


def _latest(engine: Engine, run_id: int) -> Carried:
    """Return the coverage of the last run that ended, with what later runs have read before they were interrupted."""
    table, run = ScopeCoverage.__table__, Run.__table__
    last_ended = select(func.max(run.c.run_id)).where(
        run.c.run_id < run_id, run.c.status.in_((str(RunStatus.COMPLETE), str(RunStatus.PARTIAL)))
    )
    latest: Carried = {}
    runs: dict[str, int] = {}
    with translate_errors(engine), engine.connect() as connection:
        ended = connection.execute(last_ended).scalar() or 0
        later = select(table).where(table.c.run_id >= ended, table.c.run_id < run_id)
        # The row of a whole account, "*", comes before those of its regions.
        for row in connection.execute(later.order_by(table.c.run_id, table.c.account_id, table.c.region)).mappings():
            was_carried = row["read_run_id"] is not None and row["run_id"] != ended
            if was_carried or row["outcome"] == Outcome.NOT_IN_RUN:
                continue
            account_id, region = row["account_id"], row["region"]
            known = latest.setdefault(account_id, {})
            if runs.setdefault(account_id, row["run_id"]) != row["run_id"]:
                # A later run: it has entered the account, or it could not.
                runs[account_id] = row["run_id"]
                known.pop(WHOLE_ACCOUNT, None)
                if region == WHOLE_ACCOUNT:
                    known.clear()
            values = {name: row[name] for name in Coverage.__dataclass_fields__}
            known[region] = Coverage(**{**values, "read_run_id": row["read_run_id"] or row["run_id"]})
    return latest
