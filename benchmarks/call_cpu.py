"""CPU of a KMS call: through our client and wire, and through a warmed boto3 client in one thread, over TLS.

Both ask the same questions of the same keys of the same endpoint, in turn: a round of one, a round of the other. The ratio is
that of each pair of rounds. CPU is user and system time; each of the two is a process of its own, as is the endpoint.

    python -m benchmarks calls
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
from crawler.collector import items_of
from crawler.iam_policies import member_actions
from crawler.services import kms
from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation, Scope, Subject
from models.settings import AwsSettings, RoleSettings
from models.settings.crawl import CrawlSettings

REGION = "eu-west-1"
QUESTIONS: Mapping[Operation, str] = {
    kms.DESCRIBE_KEY: "describe_key",
    kms.GET_KEY_POLICY: "get_key_policy",
    kms.LIST_GRANTS: "list_grants",
    kms.LIST_RESOURCE_TAGS: "list_resource_tags",
    kms.GET_KEY_ROTATION_STATUS: "get_key_rotation_status",
    kms.LIST_KEY_ROTATIONS: "list_key_rotations",
}
"""What is asked about every key, and the client method that asks it."""
IN_FLIGHT = 64
SPAWN = multiprocessing.get_context("spawn")


class Wire:
    """Asks as the collector does: role sessions, pacing, retries, paging and items with types."""

    def __init__(self, world: World, url: str) -> None:
        self._keys = _keys(world)
        # Pacing is at work, with the whole quota for its share: how it waits is nothing to measure.
        crawl = CrawlSettings(concurrency=IN_FLIGHT, quota_share_percent=100)
        aws = AwsSettings(endpoint_url=url)
        self._loop = asyncio.Runner()
        self._client: AwsClient = self._loop.run(_made(lambda: AwsClient(aws, crawl)))
        role = RoleSettings(name=world.parameters.role_name, external_id=SecretStr(world.parameters.external_id or ""))
        roles = Roles(self._client, aws, role, member_actions(RESOURCE_TYPES))
        self._providers = {account: self._loop.run(roles.member(account)) for account in self._keys}

    def round(self) -> int:
        """Ask everything about every key; the number of calls."""
        before = self._client.total.calls
        self._loop.run(self._ask_all())
        return self._client.total.calls - before

    def close(self) -> None:
        """Let go of connections."""
        self._loop.run(_made(self._client.close))
        self._loop.close()

    async def _ask_all(self) -> None:
        # The accounts in turn, so that no quota of one is used up before those of the others.
        subjects = [
            (self._providers[account], Subject(Scope(account, REGION), REGION, arn, {"key_arn": arn}))
            for account, arn in _in_turn(self._keys)
        ]
        waiting = iter(subjects)

        async def worker() -> None:
            for provider, subject in waiting:
                for operation in QUESTIONS:
                    await self._ask(provider, operation, subject)

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())

    async def _ask(self, provider: CredentialProvider, operation: Operation, subject: Subject) -> None:
        asked = parameters(operation, subject)
        async for page in self._client.pages(provider, operation, REGION, asked):
            items_of(operation, page)


class Boto3:
    """Asks one after the other with stock clients, one an account, made and warmed beforehand."""

    def __init__(self, world: World, url: str) -> None:
        self._keys = _keys(world)
        sts = boto3.client("sts", region_name=REGION, endpoint_url=url)
        self._clients = {account: self._client(sts, account, world.parameters, url) for account in self._keys}

    @staticmethod
    def _client(sts: Any, account: str, parameters: Parameters, url: str) -> Any:
        role = f"arn:aws:iam::{account}:role/{parameters.role_name}"
        asked = {"RoleArn": role, "RoleSessionName": "benchmark", "ExternalId": parameters.external_id}
        keys = sts.assume_role(**asked)["Credentials"]
        return boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    def round(self) -> int:
        """Ask everything about every key; the number of calls."""
        calls = 0
        for account, arn in _in_turn(self._keys):
            client = self._clients[account]
            for operation, method in QUESTIONS.items():
                asked: dict[str, Any] = {"KeyId": arn}
                if operation is kms.GET_KEY_POLICY:
                    asked["PolicyName"] = "default"
                if operation.paging is not None and operation.paging.limit:
                    asked[operation.paging.limit] = operation.paging.size
                page = getattr(client, method)(**asked)
                calls += 1
                while page.get("Truncated"):
                    page = getattr(client, method)(**asked, Marker=page["NextMarker"])
                    calls += 1
        return calls

    def close(self) -> None:
        """Let go of connections."""
        for client in self._clients.values():
            client.close()


WAYS: Mapping[str, type[Wire | Boto3]] = {"wire": Wire, "boto3": Boto3}


def measure(*, quick: bool = False, keys: int = 60, pairs: int = 9) -> list[Figure]:
    """Rounds in turn; ``keys`` are those of each of eight accounts, ``pairs`` the rounds of each way."""
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
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    with (
        tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder,
        FakeAws(world, process=True, tls=Path(folder)) as fake,
        ExitStack() as stack,
    ):
        ways = {name: stack.enter_context(_process(name, world, fake)) for name in WAYS}
        for way in ways.values():
            _round(way)  # to warm up: role sessions, connections, models, signing keys
        calls: dict[str, int] = {}
        for _ in range(pairs):
            for name, way in ways.items():
                calls[name], cpu = _round(way)
                spent[name].append(cpu / calls[name])
            if len(set(calls.values())) != 1:
                raise RuntimeError(f"not the same calls: {calls}")
    ratios = [ours / theirs for ours, theirs in zip(spent["wire"], spent["boto3"], strict=True)]
    return [
        Figure(f"KMS calls: calls a round ({pairs} pairs of rounds)", calls["wire"]),
        Figure("KMS calls: CPU of one on our wire (median)", statistics.median(spent["wire"]) * 1e6, "us"),
        Figure("KMS calls: CPU of one on boto3 (median)", statistics.median(spent["boto3"]) * 1e6, "us"),
        Figure("KMS calls: our wire / boto3, lowest pair", min(ratios)),
        Figure("KMS calls: our wire / boto3, highest pair", max(ratios)),
        Figure("KMS calls: our wire / boto3 (median)", statistics.median(ratios), budget=None if quick else 0.12),
    ]


@contextmanager
def _process(name: str, world: Parameters, fake: FakeAws) -> Iterator[Connection]:
    """A process of its own for one way, which makes a round whenever it is told to."""
    ours, theirs = SPAWN.Pipe()
    told = (name, theirs, world.to_json(), fake.url, fake.environment())
    process = SPAWN.Process(target=_work, args=told, name=name)
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send(False)
        process.join(30)
    finally:
        ours.close()
        process.kill()


def _round(way: Connection) -> tuple[int, float]:
    """Calls, and seconds of CPU."""
    way.send(True)
    calls, cpu = way.recv()
    return calls, cpu


def _work(name: str, pipe: Connection, world: Mapping[str, Any], url: str, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    way = WAYS[name](World(Parameters.from_json(world)), url)
    while pipe.recv():
        before = time.process_time()
        calls = way.round()
        pipe.send((calls, time.process_time() - before))
    way.close()


def _keys(world: World) -> dict[str, list[str]]:
    """ARNs by account: customer keys that tell all of it, even how they rotate. The first account has no role to assume."""
    found: dict[str, list[str]] = {}
    for account in world.accounts[1:]:
        account_region = world.account_region(account.id, REGION)
        made = (account_region.key(account_region.key_id(at)) for at in account_region.customer_slots)
        found[account.id] = [key.arn for key in made if key is not None and key.rotation is not None and not key.denied]
    return found


def _in_turn(keys: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    for number in range(max(map(len, keys.values()))):
        yield from ((account, arns[number]) for account, arns in keys.items() if number < len(arns))


async def _made(make: Callable[[], Any]) -> Any:
    """Made inside of the event loop."""
    return make()


def main() -> None:
    """Run with sizes of your own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_cpu")
    parser.add_argument("--pairs", type=int, default=9, help="rounds of each way")
    parser.add_argument("--keys", type=int, default=60, help="keys of an account")
    options = parser.parse_args()
    figures = measure(keys=options.keys, pairs=options.pairs)
    print(f"\n{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()
