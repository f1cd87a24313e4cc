"""Equal ledgers give equal answers, in whatever order their rows were written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models.settings import Settings
from reports.mart.connection import connect
from reports.mart.view_loader import views
from reports.pipeline import refresh
from reports.rules.loader import load_rules
from reports.rules.runner import population
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.sample_ledger import sample_world, second_run, third_run


def _answers(settings: Settings) -> dict[str, list[str]]:
    """The rows of all views and the results of all rules, each as sorted texts."""
    with connect(settings.report.mart) as mart:
        rows: dict[str, list[tuple[Any, ...]]] = {
            name: mart.execute(f"SELECT * FROM {name}").fetchall() for name in (view.qualified for view in views())
        }
        rows |= {rule.rule_id: list(population(mart, rule)) for rule in load_rules(settings)}
    return {name: sorted(map(repr, answers)) for name, answers in rows.items()}


def test_every_joined_text_has_an_order() -> None:
    """Each string_agg of the shipped SQL names the order of its parts: without one, the order of rows decides."""
    unordered = [
        f"{path.name}: {call[0]}"
        for path in Path("reports").rglob("*.sql")
        for call in re.finditer(r"string_agg\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", path.read_text(encoding="utf-8"))
        if "ORDER BY" not in call[0]
    ]
    assert unordered == []


@pytest.mark.deep
def test_the_order_of_rows_changes_no_answer(tmp_path: Path, sample_settings: Settings) -> None:
    """The sample ledger, with the rows of each run written in reverse, gives the same views, reasons and lists."""
    world = sample_world(tmp_path / "ledger.db")

    def crawl() -> None:
        for model, rows in world.facts.items():
            world.facts[model] = dict(reversed(rows.items()))
        LedgerBuilder.crawl(world)

    crawl()
    second_run(world)
    crawl()
    third_run(world)
    crawl()
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    refresh(settings)
    expected, reversed_answers = _answers(sample_settings), _answers(settings)
    different = {
        name: [row for row in expected[name] if row not in reversed_answers[name]][:2]
        for name in expected
        if expected[name] != reversed_answers[name]
    }
    assert different == {}
