"""Organizations in other partitions: crawl, reports and answers name no ARN of the partition aws."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from benchmarks.fake_aws.service import Reply, Service
from tests import command
from tests.reports.mart_schema import offer_schema

pytestmark = pytest.mark.deep  # a crawl and a report of each partition

PARTITIONS = {"aws-cn": ("cn-north-1", "cn-northwest-1"), "aws-us-gov": ("us-gov-west-1", "us-gov-east-1")}
OTHER_PARTITION = re.compile(r"arn:aws:(?!iam::(?:aws|ACCOUNT))[^\s\"'<]*")


@dataclass
class Organization:
    """A crawled organization of one partition."""

    partition: str
    directory: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Run a command in the directory and return its output; findings and gaps are no failure."""
        done = command.run(*arguments, "--config", "settings.yaml", env=self.environment, cwd=self.directory)
        assert done.returncode in {0, 1, 3}, done.stderr
        return done.stdout

    def texts(self) -> Iterator[str]:
        """All texts in the ledger."""
        with sqlite3.connect(self.directory / "ledger.db") as ledger:
            tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in ledger.execute(f'SELECT * FROM "{table}"'):
                    yield from (value for value in row if isinstance(value, str))


@pytest.fixture(scope="module", params=["aws-cn", "aws-us-gov"])
def organization(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organization]:
    """An organization whose endpoint has the regions and ARNs of the partition."""
    partition: str = request.param
    regions = PARTITIONS[partition]
    directory = tmp_path_factory.mktemp(partition)
    handle = Service.handle

    def translated(self: Service, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        own, foreign = f"arn:{partition}:", f"arn%3A{partition}%3A"
        target = target.replace(foreign, "arn%3Aaws%3A").replace(own, "arn:aws:")
        body = body.replace(foreign.encode(), b"arn%3Aaws%3A").replace(own.encode(), b"arn:aws:")
        reply = handle(self, method, target, headers, body)
        head, _, content = reply.data.partition(b"\r\n\r\n")
        content = content.replace(b"arn:aws:", own.encode()).replace(b"arn%3Aaws%3A", foreign.encode())
        head = re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % len(content), head)
        return Reply(head + b"\r\n\r\n" + content, reply.accident, reply.delay)

    world = preset("tiny", seed=4, accounts=4, keys_per_account_region=3, resources=0.3, regions=regions, opt_in=())
    with pytest.MonkeyPatch.context() as patch, FakeAws(world) as fake:
        patch.setattr(Service, "handle", translated)
        settings: dict[str, Any] = {
            "database": "sqlite:///ledger.db",
            "aws": {"endpoint_url": fake.url, "region": regions[0]},
            "crawl": {"quota_share_percent": 100, "iam": True, "last_use": {"enabled": False}},
            "role": {"external_id": fake.world.parameters.external_id},
            "report": {"mart": "mart.duckdb"},
        }
        (directory / "settings.yaml").write_text(json.dumps(settings), encoding="utf-8")
        offer_schema(directory / "mart.duckdb")
        crawled = Organization(partition, directory, {**os.environ, **fake.environment()})
        crawled.run("crawl")
        yield crawled


def test_a_crawl_reads_the_regions_of_its_partition(organization: Organization) -> None:
    """Keys and resources of all kinds are read, and the partition is that of the caller."""
    query = "SELECT split_part(resource_arn, ':', 2) AS p, count(DISTINCT service) AS n FROM resources GROUP BY ALL"
    (row,) = json.loads(organization.run("sql", query, "--format", "json"))
    assert row["p"] == organization.partition
    assert row["n"] >= 4
    keys = "SELECT DISTINCT split_part(key_arn, ':', 2) AS p FROM keys"
    assert json.loads(organization.run("sql", keys, "--format", "json")) == [{"p": organization.partition}]
    classes = "SELECT count(*) AS n FROM resource_keys WHERE key_class = 'customer'"
    assert json.loads(organization.run("sql", classes, "--format", "json"))[0]["n"] > 0


def test_nothing_names_an_arn_of_another_partition(organization: Organization) -> None:
    """Ledger, access analysis, report, findings and denials build ARNs in the partition of the organization."""
    organization.run("report", "--output", "reports")
    outputs = {
        "ledger": " ".join(organization.texts()),
        "report": " ".join(
            path.read_text(encoding="utf-8") for path in (organization.directory / "reports").rglob("*.html")
        ),
        "denials": organization.run("denials"),
        "vendors": organization.run("vendors"),
        "findings": organization.run("findings"),
    }
    wrong = {name: sorted(set(OTHER_PARTITION.findall(text)))[:5] for name, text in outputs.items()}
    assert wrong == {name: [] for name in outputs}
