"""The stage after a crawl: access, mart, rules over it, findings into the ledger and the mart, one publication at the end."""

from __future__ import annotations

from models.settings import Settings
from models.store.engine import connect, translate_errors
from reports.access.analysis.stage import assess
from reports.mart.build import Building, MartInfo, building
from reports.rules.finding_history import record
from reports.rules.loader import load_rules
from reports.rules.runner import judge


def refresh(settings: Settings, run_id: int | None = None) -> MartInfo:
    """Rebuild the mart for a run (by default the latest that ended) with the rules' verdicts of it.

    All verdicts are in the mart; the ledger keeps the history of problems and of counts, and is told what changed. Findings
    of rules that are gone or disabled end. Readers see the old mart until all of it is done. Who can use which key is worked
    out before, as far as that is new.
    """
    assess(settings)
    with building(settings.database, settings.report.mart, settings, as_of=run_id) as mart:
        judge_all(mart, settings)
        keep_findings(mart, settings)
        return mart.info()


def judge_all(mart: Building, settings: Settings) -> None:
    """Judge by the rules in force: all verdicts are in the mart then."""
    judge(mart.duck, mart.as_of, load_rules(settings))


def keep_findings(mart: Building, settings: Settings) -> None:
    """Write what changed of problems and counts into the ledger's history, and take that over into the mart."""
    engine = connect(settings.database, must_exist=True)
    try:
        with translate_errors(engine), engine.begin() as connection:
            record(mart.duck, connection, mart.as_of)
    finally:
        engine.dispose()
    mart.reload_findings()
