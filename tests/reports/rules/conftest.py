"""Fixture that evaluates one rule over a ledger of one account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from reports.rules.loader import load_rules
from reports.rules.runner import population
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

NAMES = """
SELECT resource_arn, name FROM resources UNION ALL SELECT key_arn, coalesce(alias, key_id) FROM keys
UNION ALL SELECT alias_arn, alias_name FROM aliases UNION ALL SELECT account_id, name FROM accounts
"""
EvaluateRule = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def evaluate_rule(world: LedgerBuilder, tmp_path: Path) -> EvaluateRule:
    """Crawl, refresh with this rule alone, and return (status, reason) by the resource's name."""

    def evaluate(rule_id: str, *, crawl: bool = True, **rules: Any) -> dict[str, tuple[str, str]]:
        if crawl:
            world.crawl()
        path = tmp_path / "mart.duckdb"
        settings = settings_of(database=world.url, report={"mart": path}, rules={**only(rule_id), **rules})
        refresh(settings)
        rule = next(rule for rule in load_rules(settings) if rule.rule_id == rule_id)
        connection = connect(path)
        names = dict(connection.execute(NAMES).fetchall())
        rows = list(population(connection, rule))
        connection.close()
        return {names.get(arn, arn): (status, reason) for arn, _, _, _, status, reason in rows}

    return evaluate
