"""A world of one account to bring into the state that a rule judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.mart.connection import connect
from reports.pipeline import refresh
from tests.reports.ledger_builder import World, settings_of

SHOP, IRELAND = "111122223333", "eu-west-1"
Judge = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(f"sqlite:///{tmp_path / 'store.db'}")
    world.account(SHOP, "Shop", IRELAND)
    return world


@pytest.fixture
def judge(world: World, tmp_path: Path) -> Judge:
    """Crawl, refresh, and return (status, reason) of a rule by the resource's name."""

    def judged(rule_id: str, *, crawl: bool = True, **rules: Any) -> dict[str, tuple[str, str]]:
        if crawl:
            world.crawl()
        path = tmp_path / "mart.duckdb"
        refresh(settings_of(database=world.url, report={"mart": path}, rules=rules))
        connection = connect(path)
        rows = connection.execute(
            "SELECT resource_name, status, reason FROM findings WHERE rule_id = ?", [rule_id]
        ).fetchall()
        connection.close()
        return {name: (status, reason) for name, status, reason in rows}

    return judged
