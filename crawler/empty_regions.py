"""Empty regions: where the last full crawl found nothing, a run lists only the keys until one appears or some days pass."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from sqlalchemy import Engine, exists, func, literal, select

from crawler.spec import GLOBAL
from models.store.engine import translate_errors
from models.tables.keys import Alias, CustomKeyStore, Key
from models.tables.resources import Resource
from models.tables.runs import Gap, Outcome, Run, ScopeCoverage
from models.versioned import VersionedTable

REGION_COLUMNS: Mapping[type[VersionedTable], str] = {
    Key: "region",
    Alias: "region",
    CustomKeyStore: "region",
    Resource: "listing_region",
    Gap: "region",
}
"""The tables in which an empty region has no rows, each with the column of the region in which the listing was called."""


def find_empty_regions(engine: Engine, days: int) -> dict[tuple[str, str], str]:
    """Return the account-regions in which listing the keys is enough, each with the reason as a sentence.

    The ledger has no key, used alias, key store, resource or gap there, and the last full crawl by the same program version
    was at most ``days`` days ago. Days are calendar days in UTC, so the hour of a run does not matter. With 0 days the result
    is empty.
    """
    if days == 0:
        return {}
    now = dt.datetime.now(dt.UTC)
    earliest = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=days)
    scope, run = ScopeCoverage.__table__.c, Run.__table__.c
    # Another version may call operations that the version which found nothing did not call.
    version = select(run.version).order_by(run.run_id.desc()).limit(1).scalar_subquery()
    # The first run in the period limits the coverage rows that are read.
    first = select(func.min(run.run_id)).where(run.started_at >= earliest).scalar_subquery()
    last_full = (
        select(scope.account_id, scope.region, func.max(scope.run_id).label("run_id"))
        .join_from(ScopeCoverage.__table__, Run.__table__, run.run_id == scope.run_id)
        .where(
            scope.run_id >= first,
            run.started_at >= earliest,
            run.version == version,
            scope.outcome == str(Outcome.COMPLETE),
            scope.gaps == 0,
            scope.reason.is_(None),
            scope.read_run_id.is_(None),
            scope.region != GLOBAL,
        )
        .group_by(scope.account_id, scope.region)
        .subquery()
    )
    query = select(last_full.c.account_id, last_full.c.region, last_full.c.run_id, run.started_at).join(
        Run.__table__, run.run_id == last_full.c.run_id
    )
    for model, region_column in REGION_COLUMNS.items():
        column = model.table().c
        rows = select(literal(1)).where(
            column.account_id == last_full.c.account_id,
            column[region_column] == last_full.c.region,
            column.valid_to.is_(None),
        )
        if model is Alias:
            # The alias/aws/... of a service that was never used has no key.
            rows = rows.where(column.target_key_id.is_not(None))
        query = query.where(~exists(rows))
    reasons: dict[int, str] = {}
    empty_regions: dict[tuple[str, str], str] = {}
    with translate_errors(engine), engine.connect() as connection:
        for account_id, region, run_id, started_at in connection.execute(query):
            reason = f"no keys; the last full crawl of the region, run {run_id} ({started_at:%Y-%m-%d}), found nothing"
            # One text for all regions of a run.
            empty_regions[account_id, region] = reasons.setdefault(run_id, reason)
    return empty_regions
