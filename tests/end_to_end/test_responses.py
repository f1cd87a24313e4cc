"""Recorded responses of resource types: collector, ledger and mart show the resource with its key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import configured_types, member_actions
from crawler.spec import GLOBAL, Scope
from models.store.scd2_merge import Batch
from models.tables.runs import Outcome
from reports.mart.build import build
from reports.mart.connection import connect
from tests.crawler import http_stub
from tests.crawler.empty_ledger import Ledger
from tests.crawler.scripted_aws import ACCOUNT, REGION, Caller, ScriptedAws, client_for
from tests.reports.ledger_builder import settings_of

RESPONSES = sorted((Path(__file__).parent / "responses").glob("*.json"))
KEY = http_stub.key_of(ACCOUNT, REGION)


def crawled(recorded: dict[str, Any], path: Path) -> Path:
    """The mart of one run in which AWS returns the recorded responses, and one key."""
    aws = ScriptedAws({**http_stub.answers(), "kms:ListKeys": _key_list(), **recorded["responses"]})
    options = CollectOptions(resource_types=configured_types([recorded["resource_type"]]))

    async def both() -> list[Collected]:
        return [await collect(client_for(aws), Caller(), Scope(ACCOUNT, name), options) for name in (REGION, GLOBAL)]

    batch, outcomes = Batch(), {}
    for collected in asyncio.run(both()):
        assert collected.gaps == 0, collected.batch.rows
        batch.extend(collected.batch)
        outcomes[ACCOUNT, collected.scope.region] = Outcome.COMPLETE
    ledger = Ledger(path / "ledger.db")
    try:
        ledger.record_run(batch, outcomes)
    finally:
        ledger.close()
    mart = path / "mart.duckdb"
    return build(f"sqlite:///{path / 'ledger.db'}", mart, settings_of(report={"mart": mart})).path


def _key_list() -> dict[str, Any]:
    return {"Keys": [{"KeyId": http_stub.KEY_ID, "KeyArn": KEY}], "Truncated": False}


@pytest.mark.parametrize("file", RESPONSES, ids=lambda file: file.stem)
def test_the_mart_shows_the_resource_with_its_key(file: Path, tmp_path: Path) -> None:
    """A recorded resource is in the mart under its name, with the key that it names."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    with connect(crawled(recorded, tmp_path)) as mart:
        found = mart.execute("SELECT resource_type, resource_name, key_arn, key_class FROM resource_keys").fetchall()
    assert found == [(recorded["resource_type"], recorded["name"], KEY, "customer")]


@pytest.mark.parametrize("file", RESPONSES, ids=lambda file: file.stem)
def test_permissions_cover_the_recorded_calls(file: Path) -> None:
    """The policy that kmsledger prints for a resource type allows every call that was recorded for it."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    (declared,) = configured_types([recorded["resource_type"]])
    operations = {str(operation): operation for operation in declared.operations}
    assert operations.keys() == recorded["responses"].keys()
    assert {operation.iam_action for operation in operations.values()} <= set(member_actions([declared]))
