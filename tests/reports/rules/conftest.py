"""Fixture that evaluates one rule over a ledger of one account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

EvaluateRule = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def evaluate_rule(world: LedgerBuilder, tmp_path: Path) -> EvaluateRule:
    """Crawl, refresh with this rule alone, and return (status, reason) by the resource's name."""

    def evaluate(rule_id: str, *, crawl: bool = True, **rules: Any) -> dict[str, tuple[str, str]]:
        if crawl:
            world.crawl()
        path = tmp_path / "mart.duckdb"
        refresh(settings_of(database=world.url, report={"mart": path}, rules={**only(rule_id), **rules}))
        connection = connect(path)
        rows = connection.execute(
            "SELECT resource_name, status, reason FROM findings WHERE rule_id = ?", [rule_id]
        ).fetchall()
        connection.close()
        return {name: (status, reason) for name, status, reason in rows}

    return evaluate
