"""Recorded responses of resource types, served over HTTP: collector, ledger and mart show the resource with its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from benchmarks.fake_aws.recorded import RESPONSES
from crawler.aws.client import AwsClient
from crawler.aws.transport_boto3 import Credentials
from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import configured_types, member_actions
from crawler.spec import GLOBAL, Scope
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.store.scd2_merge import Batch
from models.tables.runs import Outcome
from reports.mart.build import build
from reports.mart.connection import connect
from tests.crawler.empty_ledger import Ledger
from tests.reports.ledger_builder import settings_of

FILES = sorted(RESPONSES.glob("*.json"))
REGION = "us-east-1"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAws]:
    """An organization whose only resources are recorded, with a key per region; an empty page precedes every page."""
    parameters = preset("tiny", adversarial=False, resources=0, keys_per_account_region=1, empty_pages=1.0)
    with FakeAws(parameters) as endpoint:
        yield endpoint


class Member:
    """Implements :class:`crawler.aws.client.CredentialProvider` for an account of the fake."""

    def __init__(self, fake: FakeAws) -> None:
        self.account_id = fake.world.accounts[1].id
        self._credentials = Credentials(*fake.session(self.account_id).keys)

    async def credentials(self) -> Credentials:
        """Return the credentials of the role session."""
        return self._credentials

    async def renew(self, expired: Credentials) -> Credentials:
        """Never needed."""
        raise AssertionError(expired)


async def collected(fake: FakeAws, options: CollectOptions) -> list[Collected]:
    """The facts of a region and of the global scope."""
    client = AwsClient(AwsSettings(endpoint_url=fake.url), CrawlSettings(max_attempts=1, quota_share_percent=100))
    provider = Member(fake)
    try:
        scopes = [Scope(provider.account_id, region) for region in (REGION, GLOBAL)]
        return [await collect(client, provider, scope, options) for scope in scopes]
    finally:
        client.close()


def crawled(fake: FakeAws, recorded: dict[str, Any], path: Path) -> Path:
    """The mart of one run of a resource type."""
    options = CollectOptions(resource_types=configured_types([recorded["resource_type"]]))
    batch, outcomes = Batch(), {}
    for scope in asyncio.run(collected(fake, options)):
        assert scope.gaps == 0, scope.batch.rows
        batch.extend(scope.batch)
        outcomes[scope.scope.account_id, scope.scope.region] = Outcome.COMPLETE
    ledger = Ledger(path / "ledger.db")
    try:
        ledger.record_run(batch, outcomes)
    finally:
        ledger.close()
    mart = path / "mart.duckdb"
    return build(f"sqlite:///{path / 'ledger.db'}", mart, settings_of(report={"mart": mart})).path


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_mart_shows_the_resource_with_its_key(file: Path, fake: FakeAws, tmp_path: Path) -> None:
    """The mart contains the recorded resource under its name, with its key; all recorded calls were made."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    fake.control.reset()
    with connect(crawled(fake, recorded, tmp_path)) as mart:
        rows = mart.execute("SELECT resource_type, resource_name, key_arn, key_class FROM resource_keys").fetchall()
    account = fake.world.accounts[1].id
    key_id = fake.world.account_region(account, REGION).key_ids[0]
    key = f"arn:aws:kms:{REGION}:{account}:key/{key_id}"
    assert rows == [(recorded["resource_type"], recorded["name"], key, "customer")]
    assert recorded["responses"].keys() <= fake.control.counters()["operations"].keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_permissions_cover_the_recorded_calls(file: Path) -> None:
    """The printed policy for a resource type allows every recorded call."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    (declared,) = configured_types([recorded["resource_type"]])
    operations = {str(operation): operation for operation in declared.operations}
    assert operations.keys() == recorded["responses"].keys()
    assert {operation.iam_action for operation in operations.values()} <= set(member_actions([declared]))
