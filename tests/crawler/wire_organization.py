"""An organization of three accounts whose responses pass through the codecs, and whole crawls of it in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from crawler.crawl import crawl
from crawler.progress import Progress
from crawler.spec import Operation
from crawler.writer import CrawlResult
from models.settings import Settings
from tests.crawler.http_stub import IRELAND, MANAGEMENT, MEMBER, answers
from tests.crawler.scripted_aws import Answer
from tests.crawler.wire_aws import WireAws

OTHER = "555566667777"
ROOT, UNIT, INNER = "r-abcd", "ou-abcd-11111111", "ou-abcd-22222222"
UNITS = {ROOT: [{"Id": UNIT, "Name": "Production"}], UNIT: [{"Id": INNER, "Name": "Web"}], INNER: []}
JOINED = dt.datetime(2024, 2, 3, tzinfo=dt.UTC)


def entry(account: str) -> dict[str, Any]:
    """Return an account as in ListAccounts."""
    arn = f"arn:aws:organizations::{MANAGEMENT}:account/o-example/{account}"
    names = {"Name": f"account {account}", "Email": f"{account}@example.com"}
    return {"Id": account, "Arn": arn, "State": "ACTIVE", "JoinedTimestamp": JOINED, **names}


ACCOUNTS = [entry(account) for account in (MANAGEMENT, MEMBER, OTHER)]
MEMBERS = {ROOT: ACCOUNTS[:1], UNIT: [], INNER: ACCOUNTS[1:]}


def answer(operation: Operation, params: Mapping[str, Any]) -> Answer:
    """Return the response of an operation."""
    name = str(operation)
    if name == "sts:AssumeRole":
        account = params["RoleArn"].split(":")[4]
        session = {"AccessKeyId": f"ASIA{account}", "SecretAccessKey": "x", "SessionToken": "x"}
        return {"Credentials": {**session, "Expiration": dt.datetime(2099, 1, 1, tzinfo=dt.UTC)}}
    return {
        **answers(),
        "organizations:ListAccounts": {"Accounts": ACCOUNTS},
        "organizations:ListOrganizationalUnitsForParent": {
            "OrganizationalUnits": UNITS.get(params.get("ParentId", ""), [])
        },
        "organizations:ListAccountsForParent": {"Accounts": MEMBERS.get(params.get("ParentId", ""), [])},
        "organizations:ListTagsForResource": {"Tags": [{"Key": "stage", "Value": "prod"}]},
        "account:ListRegions": {"Regions": [{"RegionName": IRELAND, "RegionOptStatus": "opted-in"}]},
        "ec2:DescribeRegions": {"Regions": [{"RegionName": IRELAND, "OptInStatus": "opted-in"}]},
    }[name]


@contextmanager
def over(aws: WireAws) -> Iterator[None]:
    """Make all clients use a transport."""
    environment = {"AWS_ACCESS_KEY_ID": "AKIAOWN", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch("crawler.aws.client._transport", return_value=aws), mock.patch.dict("os.environ", environment):
        yield


def crawled(aws: WireAws, ledger: Path, source: str = "ec2") -> CrawlResult:
    """Crawl the organization into a ledger."""
    settings = Settings.model_validate(
        {
            "database": f"sqlite:///{ledger}",
            "organization": {"exclude": {"tags": {"stage": ["test"]}}},
            "regions": {"source": source},
            "crawl": {
                "max_attempts": 1,
                "quota_share_percent": 100,
                "resource_types": ["AWS::SecretsManager::Secret"],
                "last_use": {"interval_days": 1},
            },
        }
    )
    with over(aws):
        return crawl(settings, "test", Progress(live=False))
