"""The stage after a crawl: access, mart, rules over it, findings into the ledger and the mart, one publication at the end."""

from __future__ import annotations

from models.database import connect, explained
from models.findings import Finding
from models.history import Batch, merge, open_rows
from models.settings import Settings
from reports.assess.run import assess
from reports.compliance.assess import assess_rule
from reports.compliance.rules import load_rules
from reports.mart.build import Building, MartInfo, building


def refresh(settings: Settings, run_id: int | None = None) -> MartInfo:
    """Rebuild the mart for a run (by default the latest that ended) with the rules' verdicts of it.

    Verdicts are kept as history: one that stays the same is as old as the run that reached it first. Findings of rules
    that are gone or disabled end. Readers see the old mart until all of it is done. Who can use which key is
    worked out before, as far as that is new.
    """
    assess(settings)
    with building(settings.database, settings.report.mart, settings, as_of=run_id) as mart:
        _assess(mart, settings)
        mart.reload_findings()
        return mart.info()


def _assess(mart: Building, settings: Settings) -> None:
    rules = load_rules(settings)
    engine = connect(settings.database, must_exist=True)
    try:
        with explained(engine), engine.begin() as connection:
            known = set(connection.scalars(open_rows(Finding).with_only_columns(Finding.rule_id).distinct()))
            for rule in rules:  # one at a time: the verdicts of one rule on every key are many already
                batch = Batch()
                batch.complete(Finding, rule.rule_id)
                for row in assess_rule(mart.duck, rule):
                    batch.add(Finding, **row)
                merge(connection, mart.as_of, batch)
            for rule_id in known - {rule.rule_id for rule in rules}:
                ended = Batch()
                ended.complete(Finding, rule_id)
                merge(connection, mart.as_of, ended)
    finally:
        engine.dispose()
