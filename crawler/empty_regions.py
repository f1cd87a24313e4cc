"""Quiet regions: where a whole crawl found nothing, a night asks for keys alone until one appears or some days are over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Engine, exists, func, literal, select

from crawler.spec import GLOBAL
from models.store.engine import translate_errors
from models.tables.keys import Alias, CustomKeyStore, Key
from models.tables.resources import Resource
from models.tables.runs import Gap, Outcome, Run, ScopeCoverage
from models.versioned import VersionedTable

PLACES: Mapping[type[VersionedTable], str] = {
    Key: "region",
    Alias: "region",
    CustomKeyStore: "region",
    Resource: "listing_region",
    Gap: "region",
}
"""What a scope that is not quiet may have, and the column of the region that it was asked in."""


def quiet_scopes(engine: Engine, days: int) -> dict[tuple[str, str], str]:
    """Account and region of the scopes that need only their keys asked, each with the reason as a sentence.

    Of them the ledger knows no key, alias in use, key store, resource or gap, and the last full crawl, by the same version of
    the program, was at most ``days`` days ago; days are those of the calendar, in UTC, so that the hour of a night does not
    matter. With 0 days there are none.
    """
    if days == 0:
        return {}
    now = dt.datetime.now(dt.UTC)
    earliest = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=days)
    scope, run = ScopeCoverage.__table__.c, Run.__table__.c
    # Another version may ask for more than the one that found nothing.
    version = select(run.version).order_by(run.run_id.desc()).limit(1).scalar_subquery()
    # The first run of those days bounds what is read of the coverage of all nights.
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
            scope.region != GLOBAL,
        )
        .group_by(scope.account_id, scope.region)
        .subquery()
    )
    found = last_full.c
    query = select(found.account_id, found.region, found.run_id, run.started_at).join(
        Run.__table__, run.run_id == found.run_id
    )
    for model, place in PLACES.items():
        query = query.where(~_known(model, place, found.account_id, found.region))
    sentences: dict[int, str] = {}
    quiet: dict[tuple[str, str], str] = {}
    with translate_errors(engine), engine.connect() as connection:
        for account_id, region, run_id, started_at in connection.execute(query):
            sentence = sentences.get(run_id)
            if sentence is None:
                said = f"no key; all else was last asked in run {run_id} ({started_at:%Y-%m-%d}) and there was nothing"
                sentence = sentences[run_id] = said
            quiet[account_id, region] = sentence
    return quiet


def _known(
    model: type[VersionedTable], place: str, account_id: ColumnElement[str], region: ColumnElement[str]
) -> ColumnElement[bool]:
    """Whether the ledger knows a fact of this kind in a scope."""
    column = model.table().c
    known = select(literal(1)).where(
        column.account_id == account_id, column[place] == region, column.valid_to.is_(None)
    )
    if model is Alias:
        # An alias/aws/... of a service that was never used has no key.
        known = known.where(column.target_key_id.is_not(None))
    return exists(known)
