"""CPU per KMS call over TLS: the crawler client against a warmed-up boto3 client in one thread.

Both make the same calls for the same keys, in alternating rounds. The ratio is computed for each pair of rounds.
CPU is user and system time. Both clients and the endpoint are separate processes.

    python -m benchmarks call_cpu
    python -m benchmarks.call_cpu --pairs 15
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import boto3
from pydantic import SecretStr

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import Parameters, preset
from benchmarks.fake_aws.world_state import World
from benchmarks.metrics import Figure, machine, table
from crawler.aws.client import AwsClient, CredentialProvider, parameters
from crawler.aws.credentials import Roles
from crawler.aws.response_validation import items_of
from crawler.iam_policies import member_actions
from crawler.services import kms
from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation, Scope, Subject
from models.settings import AwsSettings, RoleSettings
from models.settings.crawl import CrawlSettings

REGION = "eu-west-1"
METHODS: Mapping[Operation, str] = {
    kms.DESCRIBE_KEY: "describe_key",
    kms.GET_KEY_POLICY: "get_key_policy",
    kms.LIST_GRANTS: "list_grants",
    kms.LIST_RESOURCE_TAGS: "list_resource_tags",
    kms.GET_KEY_ROTATION_STATUS: "get_key_rotation_status",
    kms.LIST_KEY_ROTATIONS: "list_key_rotations",
}
"""The operations called for every key, with the boto3 method."""
IN_FLIGHT = 64
SPAWN = multiprocessing.get_context("spawn")


class CrawlerClient:
    """Makes calls like the collector: role sessions, rate limiting, retries, paging and typed items."""

    def __init__(self, world: World, url: str) -> None:
        self._keys = _keys(world)
        # The rate limiter is active, but with the full quota, so that waiting does not affect the result.
        crawl = CrawlSettings(concurrency=IN_FLIGHT, quota_share_percent=100)
        aws = AwsSettings(endpoint_url=url)
        self._loop = asyncio.Runner()
        self._client: AwsClient = self._loop.run(_run_in_loop(lambda: AwsClient(aws, crawl)))
        role = RoleSettings(name=world.parameters.role_name, external_id=SecretStr(world.parameters.external_id or ""))
        roles = Roles(self._client, aws, role, member_actions(RESOURCE_TYPES))
        self._providers = {account: self._loop.run(roles.member(account)) for account in self._keys}

    def round(self) -> int:
        """Make all calls for every key; returns the number of calls."""
        before = self._client.total.calls
        self._loop.run(self._call_all())
        return self._client.total.calls - before

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(_run_in_loop(self._client.close))
        self._loop.close()

    async def _call_all(self) -> None:
        # Alternate between accounts, so that the quotas are used evenly.
        subjects = [
            (self._providers[account], Subject(Scope(account, REGION), REGION, arn, {"key_arn": arn}))
            for account, arn in _round_robin(self._keys)
        ]
        waiting = iter(subjects)

        async def worker() -> None:
            for access, subject in waiting:
                for operation in METHODS:
                    await self._call(access, operation, subject)

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())

    async def _call(self, access: CredentialProvider, operation: Operation, subject: Subject) -> None:
        params = parameters(operation, subject)
        async for page in self._client.pages(access, operation, REGION, params):
            items_of(operation, page)


class BaselineClient:
    """Makes calls one by one with one warmed-up boto3 client per account."""

    def __init__(self, world: World, url: str) -> None:
        self._keys = _keys(world)
        sts = boto3.client("sts", region_name=REGION, endpoint_url=url)
        self._clients = {account: self._client(sts, account, world.parameters, url) for account in self._keys}

    @staticmethod
    def _client(sts: Any, account: str, parameters: Parameters, url: str) -> Any:
        role = f"arn:aws:iam::{account}:role/{parameters.role_name}"
        params = {"RoleArn": role, "RoleSessionName": "benchmark", "ExternalId": parameters.external_id}
        keys = sts.assume_role(**params)["Credentials"]
        return boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    def round(self) -> int:
        """Make all calls for every key; returns the number of calls."""
        calls = 0
        for account, arn in _round_robin(self._keys):
            client = self._clients[account]
            for operation, method in METHODS.items():
                params: dict[str, Any] = {"KeyId": arn}
                if operation is kms.GET_KEY_POLICY:
                    params["PolicyName"] = "default"
                if operation.paging is not None and operation.paging.limit:
                    params[operation.paging.limit] = operation.paging.size
                page = getattr(client, method)(**params)
                calls += 1
                while page.get("Truncated"):
                    page = getattr(client, method)(**params, Marker=page["NextMarker"])
                    calls += 1
        return calls

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


CLIENTS: Mapping[str, type[CrawlerClient | BaselineClient]] = {"wire": CrawlerClient, "boto3": BaselineClient}


def measure(*, quick: bool = False, keys: int = 60, pairs: int = 9) -> list[Figure]:
    """Measure alternating rounds; ``keys`` is the number per account, ``pairs`` the number of rounds of each client."""
    if quick:
        keys, pairs = 3, 3
    world = preset(
        "tiny",
        accounts=9,
        regions=(REGION,),
        opt_in=(),
        adversarial=False,
        keys_per_account_region=keys,
        grants_per_key=3,
        empty_pages=0.0,
    )
    spent: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, process=True, tls=Path(folder)) as fake,
        ExitStack() as stack,
    ):
        processes = {name: stack.enter_context(_process(name, world, fake)) for name in CLIENTS}
        for process in processes.values():
            _round(process)  # warm-up: role sessions, connections, models, signing keys
        calls: dict[str, int] = {}
        for _ in range(pairs):
            for name, process in processes.items():
                calls[name], cpu = _round(process)
                spent[name].append(cpu / calls[name])
            if len(set(calls.values())) != 1:
                raise RuntimeError(f"the clients made different numbers of calls: {calls}")
    ratios = [ours / theirs for ours, theirs in zip(spent["wire"], spent["boto3"], strict=True)]
    return [
        Figure(f"KMS calls: calls per round ({pairs} pairs of rounds)", calls["wire"]),
        Figure("KMS calls: CPU per call, crawler client (median)", statistics.median(spent["wire"]) * 1e6, "us"),
        Figure("KMS calls: CPU per call, boto3 (median)", statistics.median(spent["boto3"]) * 1e6, "us"),
        Figure("KMS calls: crawler client / boto3, lowest pair", min(ratios)),
        Figure("KMS calls: crawler client / boto3, highest pair", max(ratios)),
        Figure("KMS calls: crawler client / boto3 (median)", statistics.median(ratios), budget=None if quick else 0.12),
    ]


@contextmanager
def _process(name: str, world: Parameters, fake: FakeAws) -> Iterator[Connection]:
    """Start a process for one client that makes a round on request."""
    ours, theirs = SPAWN.Pipe()
    arguments = (name, theirs, world.to_json(), fake.url, fake.environment())
    process = SPAWN.Process(target=_work, args=arguments, name=name)
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send(False)
        process.join(30)
    finally:
        ours.close()
        process.kill()


def _round(process: Connection) -> tuple[int, float]:
    """Run one round; returns the number of calls and the CPU seconds."""
    process.send(True)
    calls, cpu = process.recv()
    return calls, cpu


def _work(name: str, pipe: Connection, world: Mapping[str, Any], url: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    process = CLIENTS[name](World(Parameters.from_json(world)), url)
    while pipe.recv():
        before = time.process_time()
        calls = process.round()
        pipe.send((calls, time.process_time() - before))
    process.close()


def _keys(world: World) -> dict[str, list[str]]:
    """Fully readable customer keys with rotation, by account; without the management account, which has no role."""
    keys_by_account: dict[str, list[str]] = {}
    for account in world.accounts[1:]:
        account_region = world.account_region(account.id, REGION)
        generated = (account_region.key(account_region.key_id(slot)) for slot in account_region.customer_slots)
        keys_by_account[account.id] = [
            key.arn for key in generated if key is not None and key.rotation is not None and not key.denied
        ]
    return keys_by_account


def _round_robin(keys: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    for number in range(max(map(len, keys.values()))):
        yield from ((account, arns[number]) for account, arns in keys.items() if number < len(arns))


async def _run_in_loop(factory: Callable[[], Any]) -> Any:
    """Call the factory inside the event loop."""
    return factory()


def main() -> None:
    """Run with other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_cpu")
    parser.add_argument("--pairs", type=int, default=9, help="rounds of each client")
    parser.add_argument("--keys", type=int, default=60, help="keys per account")
    options = parser.parse_args()
    figures = measure(keys=options.keys, pairs=options.pairs)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()
