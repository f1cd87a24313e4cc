"""Invalid responses: each is a gap of its item, nothing else is affected, and nothing is closed."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crawler.aws.client import AwsClient
from crawler.aws.rate_limit import RateLimiter
from crawler.collector import Collected, CollectOptions, collect
from crawler.spec import GLOBAL, Scope
from models.settings import AwsSettings
from models.settings.crawl import CrawlSettings
from models.store.scd2_merge import Batch
from models.tables.iam import IamScan
from models.tables.keys import Tag
from models.tables.resources import KeyReference, Resource, ResourceKey
from models.tables.runs import Cause, Gap, Outcome
from models.tables.trails import TrailScan
from models.versioned import VersionedTable, versioned_tables
from reports.mart.build import build
from tests.crawler.empty_ledger import Ledger
from tests.crawler.invalid_values import VALUES, Case, cases
from tests.crawler.scripted_aws import ACCOUNT, REGION, Caller
from tests.crawler.wire_aws import ABSENT, WireAws, doubled, replaced
from tests.crawler.wire_aws import Path as MemberPath
from tests.reports.ledger_builder import settings_of

Facts = dict[tuple[type[VersionedTable], tuple[Any, ...]], Mapping[str, Any]]
SETTINGS = AwsSettings(), CrawlSettings(max_attempts=1)
OPTIONS = CollectOptions(iam=True)
SCOPES = (REGION, GLOBAL)
OUTCOMES = {(ACCOUNT, region): Outcome.PARTIAL for region in SCOPES}
SCANS = (IamScan, TrailScan)
"""Facts that a listing was complete."""


async def collected(aws: WireAws, region: str) -> Collected:
    """Collect one scope."""
    client = AwsClient(*SETTINGS, aws)
    client._rate_limiter = RateLimiter(1000)
    return await collect(client, Caller(), Scope(ACCOUNT, region), OPTIONS)


def run(runner: asyncio.Runner, work: Coroutine[Any, Any, Collected]) -> Collected:
    """Run a coroutine; `Runner.run` also handles Ctrl-C, which takes a tenth of the time of a round."""
    return runner.get_loop().run_until_complete(work)


def facts(batch: Batch) -> Facts:
    """Return the facts of a batch by table and natural key."""
    return {
        (model, tuple(row[name] for name in model.natural_key)): row
        for model in batch.rows
        if model is not Gap
        for chunk in batch.iter_chunks(model)
        for row in chunk
    }


@dataclass
class Usual:
    """A scope without invalid responses: its facts, its calls and all changes of the responses."""

    region: str
    facts: Facts
    aws: WireAws
    cases: dict[str, deque[Case]] = field(default_factory=dict)


def usual(region: str, runner: asyncio.Runner) -> Usual:
    """Collect a scope without invalid responses."""
    aws = WireAws(reads={})
    result = run(runner, collected(aws, region))
    assert result.gaps == 0, result.batch.rows[Gap]
    assert aws.reads is not None
    scope = Usual(region, facts(result.batch), WireAws())
    for call, reads in aws.reads.items():
        operation, params = aws.called[call]
        scope.cases[call] = deque(cases(call, operation, doubled(operation, params), reads))
    return scope


def owners(case: Case, params: Mapping[str, Any]) -> set[str]:
    """Return the texts that identify what the changed item describes: its own texts, or the subject of the call."""
    subjects = {text for text in case.call.split()[1:] if text != ACCOUNT}
    if subjects:
        return subjects
    response = doubled(case.operation, params)
    items = response.get(str(case.path[0]))
    if not isinstance(items, list) or len(case.path) == 1 or case.description == "duplicate":
        return set(_texts(response))
    position = int(case.path[1])
    return set(_texts(items[position])) - set(_texts(items[1 - position]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str) and len(value) > 6:
        yield value


def violations(scope: Usual, result: Collected, aws: WireAws, changed: Iterable[Case]) -> Iterator[str]:
    """Yield how a scope with changed responses differs from what is allowed."""
    gaps = {(f"{row['service']}:{row['operation']}", row["subject"]) for row in result.batch.rows.get(Gap, ())}
    causes = {row["cause"] for row in result.batch.rows.get(Gap, ())}
    if not causes <= {Cause.INVALID_RESPONSE}:
        yield f"gaps with other causes: {causes}"
    lost: set[str] = set()
    meant: set[str] = set()
    expected = set()
    for case in changed:
        operation, params = aws.called[case.call]
        subject = next((text for text in case.call.split()[1:]), "")
        own = {gap for gap in gaps if gap[0] == str(operation) and (not subject or gap[1].endswith(subject))}
        expected |= own
        if own:
            lost |= owners(case, params)
        elif case.must_fail:
            yield f"{case}: no gap"
        else:
            meant |= owners(case, params) | {str(case.value), str(case.value).lower()}
    if gaps - expected:
        yield f"gaps of other calls: {gaps - expected}"
    now = facts(result.batch)
    for key, row in now.items():
        if scope.facts.get(key) != row and not _concerns(row, meant):
            yield f"changed {key}: {row}"
    complete, kept = result.batch.complete_listings, result.batch.kept
    for key in scope.facts.keys() - now.keys():
        model, row = key[0], scope.facts[key]
        if key[1] in kept.get(model, ()):
            continue
        if model not in SCANS and not _concerns(row, lost | meant):
            yield f"not recorded: {key}"
        listing = tuple(row[name] for name in model.listing_key)
        if model.listing_key and listing in complete.get(model, ()) and not _concerns(row, meant):
            yield f"closed: {key}"


def _concerns(row: Mapping[str, Any], texts: set[str]) -> bool:
    values = [value for value in row.values() if isinstance(value, str)]
    return any(text in value for text in texts for value in values)


def rounds(scope: Usual, runner: asyncio.Runner, found: list[str]) -> Iterator[tuple[Collected, list[Case]]]:
    """Collect the scope until every change was made once, in each round one of each call; yields result and changes."""
    remaining = {call: deque(queue) for call, queue in scope.cases.items() if queue}
    while remaining:
        chosen = {call: queue.popleft() for call, queue in remaining.items()}
        aws = scope.aws
        aws.calls.clear()
        aws.changes = {call: partial(replaced, path=case.path, new=case.value) for call, case in chosen.items()}
        try:
            result = run(runner, collected(aws, scope.region))
        except Exception as error:  # noqa: BLE001 - any error would end the crawl of all accounts
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            found.append(f"{type(error).__name__}: {error} in one of {[str(case) for case in chosen.values()]}")
            remaining = {call: queue for call, queue in remaining.items() if queue}
            continue
        made = [case for call, case in chosen.items() if call in set(aws.calls)]
        for call, case in chosen.items():
            if case not in made:
                # Another change of the round made the call unnecessary.
                remaining[call].appendleft(case)
        if not made:
            raise AssertionError(chosen)
        found += [f"{text}\n    in {[str(case) for case in made]}" for text in violations(scope, result, aws, made)]
        yield result, made
        remaining = {call: queue for call, queue in remaining.items() if queue}


def check(
    stride: int, found: list[str], samples: list[Batch], *, only: frozenset[str] = frozenset(VALUES), every: int = 100
) -> tuple[int, int, int]:
    """Make every n-th change; returns the numbers of operations, members and changes. A round of ``every`` is a sample."""
    fields, operations, count = set(), set(), 0
    with asyncio.Runner() as runner:
        for region in SCOPES:
            scope = usual(region, runner)
            scope.cases = {
                call: deque([case for case in queue if case.description in only][::stride])
                for call, queue in scope.cases.items()
            }
            for number, (result, made) in enumerate(rounds(scope, runner, found)):
                count += len(made)
                operations |= {str(case.operation) for case in made}
                fields |= {
                    (str(case.operation), *(part for part in case.path if isinstance(part, str))) for case in made
                }
                if number % every == 0:
                    samples.append(result.batch)
    return len(operations), len(fields), count


def usual_ledger(path: Path) -> Ledger:
    """Return a ledger after a run without invalid responses."""
    ledger = Ledger(path)
    ledger.record_run(_both(WireAws()), OUTCOMES)
    return ledger


def _both(aws: WireAws) -> Batch:
    batch = Batch()
    with asyncio.Runner() as runner:
        for region in SCOPES:
            batch.extend(runner.run(collected(aws, region)).batch)
    return batch


def open_facts(ledger: Ledger) -> dict[str, list[Any]]:
    """Return the open facts of every table, without gaps and without the keys of references, which depend on them."""
    return {
        name: sorted(
            [*(row[column] for column in model.natural_key), row["content_hash"]] for row in ledger.current(model)
        )
        for name, model in versioned_tables().items()
        if model not in {Gap, IamScan, TrailScan, ResourceKey}
    }


def assert_mart(ledger: Ledger, path: Path) -> None:
    """Build the mart of a ledger."""
    mart = path / "mart.duckdb"
    assert build(f"sqlite:///{ledger.path}", mart, settings_of(report={"mart": mart})).path == mart


@pytest.mark.deep
def test_every_invalid_member_is_a_gap_of_its_item(tmp_path: Path) -> None:
    """Every member read of every operation has every other value once: its item is a gap, all other facts are unchanged."""
    found: list[str] = []
    samples: list[Batch] = []
    operations, members, count = check(1, found, samples)
    sys.stderr.write(f"{operations} operations, {members} members, {count} cases\n")
    assert not found, "\n".join(found[:20])
    assert (operations, count >= 10_000) == (30, True)
    ledger = usual_ledger(tmp_path / "ledger.db")
    for batch in samples:
        ledger.record_run(batch, OUTCOMES)
    assert_mart(ledger, tmp_path)
    ledger.close()


@pytest.mark.deep
def test_postgresql_stores_the_same_facts_as_sqlite(tmp_path: Path, postgresql_url: str) -> None:
    """Texts, numbers and times that a response can carry break neither engine, and both store the same facts and gaps."""
    samples: list[Batch] = []
    extreme = {"NUL", "control characters", "huge text", "2**31", "2**63", "1e18", "1e300", "negative", "fraction"}
    check(7, [], samples, only=frozenset(extreme | {"time after 9999", "negative time", "true"}), every=1)
    assert len(samples) > 20
    aws = WireAws()
    samples.append(_both(aws))
    policy = '{"Id": "\\ud800", "Version": "\\u0000", "Statement": []}'
    aws.changes = {call: partial(replaced, path=("Policy",), new=policy) for call in aws.called if "KeyPolicy" in call}
    samples.append(_both(aws))
    stored = []
    for url in ("", postgresql_url):
        ledger = Ledger(tmp_path / "ledger.db", url)
        for batch in samples:
            ledger.record_run(batch, OUTCOMES)
        gaps = [{**gap, "version_id": None} for gap in ledger.rows(Gap)]
        stored.append((open_facts(ledger), sorted(gaps, key=str)))
        ledger.close()
    assert stored[0] == stored[1]


def test_an_invalid_member_is_a_gap_of_its_item() -> None:
    """A sample of the members and values of the deep test."""
    found: list[str] = []
    operations, members, count = check(83, found, [])
    assert not found, "\n".join(found[:20])
    assert (operations, members > 100, count > 150) == (30, True, True)


KEY = "1234abcd-12ab-34cd-56ef-1234567890ab"
FOREIGN = f"arn:aws:kms:{REGION}:999999999999:key/{KEY}"
EXAMPLES: list[tuple[str, MemberPath, Any]] = [
    ("kms:DescribeKey", ("KeyMetadata", "CreationDate"), 1e18),
    ("kms:DescribeKey", ("KeyMetadata", "CreationDate"), "2026-01-01T00:00:00"),
    ("kms:DescribeKey", ("KeyMetadata", "CreationDate"), "9999-12-31T23:59:59-23:59"),
    ("kms:DescribeKey", ("KeyMetadata", "PendingDeletionWindowInDays"), 2**63),
    ("kms:DescribeKey", ("KeyMetadata", "PendingDeletionWindowInDays"), "x"),
    ("kms:DescribeKey", ("KeyMetadata", "MultiRegion"), {}),
    ("kms:DescribeKey", ("KeyMetadata", "MultiRegion"), []),
    ("kms:DescribeKey", ("KeyMetadata", "Origin"), ["AWS_KMS"]),
    ("kms:DescribeKey", ("KeyMetadata", "Enabled"), "maybe"),
    ("kms:DescribeKey", ("KeyMetadata", "Arn"), FOREIGN),
    ("kms:GetKeyRotationStatus", ("RotationPeriodInDays",), 2**63),
    ("kms:GetKeyRotationStatus", ("KeyRotationEnabled",), ABSENT),
    ("kms:GetKeyPolicy", ("Policy",), "[" * 100 + "]" * 100),
    ("kms:GetKeyPolicy", ("Policy",), '{"Statement": ' + "[" * 500 + "]" * 500 + "}"),
    ("kms:GetKeyPolicy", ("Policy",), '{"Statement": ' + "[" * 1000 + "]" * 1000 + "}"),
    ("kms:GetKeyPolicy", ("Policy",), ABSENT),
    ("kms:ListKeys", ("NextMarker",), ["x"]),
    ("kms:ListKeys", ("NextMarker",), {"x": 1}),
    ("kms:ListKeys", ("Truncated",), True),
    ("kms:ListKeys", ("Keys", 0, "KeyArn"), ""),
    ("kms:ListKeys", ("Keys", 0, "KeyArn"), True),
    ("kms:ListKeys", ("Keys", 0, "KeyArn"), 42),
    ("kms:ListKeys", ("Keys", 0, "KeyArn"), FOREIGN),
    ("kms:ListAliases", ("Aliases", 0, "AliasArn"), 42),
    ("kms:ListGrants", ("Grants", 0, "GrantId"), 42),
    ("kms:ListGrants", ("Grants", 0, "GrantId"), {"x": 1}),
    ("kms:ListGrants", ("Grants", 0, "GrantId"), "ListGrants2-GrantId"),
    ("kms:ListResourceTags", ("Tags", 0, "TagKey"), 42),
    ("kms:ListResourceTags", ("Tags", 0, "TagKey"), {"x": 1}),
    ("rds:DescribeDBInstances", ("DBInstances", 0, "PerformanceInsightsEnabled"), "maybe"),
    ("rds:DescribeDBInstances", ("DBInstances",), "none"),
    ("secretsmanager:ListSecrets", ("SecretList", 0, "Name"), ABSENT),
    ("iam:GetAccountAuthorizationDetails", ("UserDetailList",), ABSENT),
]

FAST = {(name, path): number for number, (name, path, _) in reversed([*enumerate(EXAMPLES)])}.values()
"""The first example of each member."""
CASES = [
    pytest.param(
        *example,
        id=f"{example[0].partition(':')[2]}-{example[1][-1]}-{number}",
        marks=[] if number in FAST else [pytest.mark.deep],
    )
    for number, example in enumerate(EXAMPLES)
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WireAws, dict[str, list[Any]]]:
    """The file of a ledger after a usual run, the account, and the open facts."""
    ledger = usual_ledger(tmp_path_factory.mktemp("usual") / "ledger.db")
    before = open_facts(ledger)
    ledger.close()
    aws = WireAws()
    _both(aws)
    return ledger.path, aws, before


@pytest.mark.parametrize(("name", "path", "value"), CASES)
def test_facts_with_an_invalid_member_are_kept(
    name: str, path: MemberPath, value: Any, recorded: tuple[Path, WireAws, dict[str, list[Any]]], tmp_path: Path
) -> None:
    """After a run with one invalid member, every fact is open and unchanged, and the gap names the operation."""
    path_of_usual, aws, before = recorded
    shutil.copyfile(path_of_usual, tmp_path / "ledger.db")
    ledger = Ledger(tmp_path / "ledger.db")
    call = next(call for call in aws.called if call.startswith(name))
    aws.changes = {call: partial(replaced, path=path, new=value)}
    try:
        ledger.record_run(_both(aws), OUTCOMES)
        assert open_facts(ledger) == before
        (gap,) = ledger.current(Gap)
        assert (f"{gap['service']}:{gap['operation']}", gap["cause"]) == (name, "invalid_response")
        assert name in gap["message"]
    finally:
        aws.changes = {}
        ledger.close()


def test_the_mart_shows_facts_with_invalid_members(tmp_path: Path) -> None:
    """The mart of a run with invalid members of several operations can be built."""
    aws = WireAws()
    _both(aws)
    for name, path, value in reversed(EXAMPLES):
        call = next(call for call in aws.called if call.startswith(name))
        aws.changes[call] = partial(replaced, path=path, new=value)
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.record_run(_both(aws), OUTCOMES)
    assert_mart(ledger, tmp_path)
    ledger.close()


def test_a_key_listed_many_times_is_read_once() -> None:
    """A listing that repeats a key, on one page or on several, causes one call of each operation, and no gap."""
    aws = WireAws()
    with asyncio.Runner() as runner:
        runner.run(collected(aws, REGION))
        expected = Counter(aws.calls)
        aws.calls.clear()
        aws.changes = {"kms:ListKeys": lambda response: response | {"Keys": response["Keys"] * 50}}
        result = runner.run(collected(aws, REGION))
    assert Counter(aws.calls) == expected
    assert result.gaps == 0


def test_an_item_listed_twice_with_different_values_is_a_gap() -> None:
    """Neither value is recorded, and nothing that depends on it; nothing is closed."""
    aws = WireAws()

    def twice(response: dict[str, Any]) -> dict[str, Any]:
        first, second = response["DBInstances"]
        changed = first | {"KmsKeyId": "alias/another", "DBInstanceStatus": "stopped"}
        return response | {"DBInstances": [first, second, changed]}

    with asyncio.Runner() as runner:
        arn = "arn:aws:rds:eu-west-1:111122223333:DescribeDBInstances/DBInstanceArn"
        aws.changes = {"rds:DescribeDBInstances": twice}
        result = runner.run(collected(aws, REGION))
    rows = [
        row for model in (Resource, KeyReference, Tag) for row in result.batch.rows[model] if row["resource_arn"] == arn
    ]
    assert rows == []
    assert result.gaps == 1
    complete = result.batch.complete_listings
    assert (arn,) not in complete[KeyReference] | complete[Tag]
    assert (ACCOUNT, REGION, "AWS::RDS::DBInstance") not in complete[Resource]
