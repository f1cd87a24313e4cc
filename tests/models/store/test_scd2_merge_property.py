"""Random runs through the merge, on SQLite and PostgreSQL, compared with a plain Python implementation after each run.

Keys, aliases and resources of two accounts in two regions are created, changed and deleted. Runs read them completely or with
gaps at any level, are cut short, crash in a transaction and continue, or read a scope twice. All rows of all tables equal the
reference, and every earlier run can still be queried.

``KMSLEDGER_HISTORIES`` sets another number of histories, which then differ in each run of the test.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, event, select

from models.store.scd2_merge import Batch, merge, open_rows
from models.tables import versioned_tables
from tests.hypothesis_profiles import examples
from tests.models.store.ledger_builders import row
from tests.models.store.reference_merge import KINDS, Observed, Reference, Values, Version

FAST_HISTORIES = {"sqlite": 16, "postgresql": 6}
"""Of `make test`: both engines run the same statements, and one on PostgreSQL costs five times as much."""
RUNS_PER_HISTORY = (4, 5)
ACCOUNTS, REGIONS = ("000000000001", "222222222222"), ("eu-west-1", "us-east-1")
SCOPES = [(account, region) for account in ACCOUNTS for region in REGIONS]
TYPE = "AWS::RDS::DBInstance"
FACT_TABLES = {name: model for name, model in versioned_tables().items() if name in KINDS}

Name = tuple[str, tuple[Any, ...]]


class CrashError(Exception):
    """The simulated crash."""


@dataclass(frozen=True)
class Change:
    """A change in AWS: ``what`` of one item of one scope gets a value; 0 deletes it."""

    what: str
    scope: int
    item: int
    part: int
    value: int


@dataclass(frozen=True)
class Visit:
    """How one run reads one scope."""

    outcome: str
    """``seen``, ``missed`` (never reached), ``failed`` (only a gap), ``crashed`` (then tried again), ``twice``."""
    crash: int
    """Statements until the crash."""
    gaps: frozenset[tuple[str, int]]
    """What is refused: a listing or detail, and of which item."""


@dataclass(frozen=True)
class RunPlan:
    """The changes in AWS before and during a run, and how the run reads each scope."""

    changes: list[Change]
    late: list[tuple[int, int]]
    """Which of the changes happen again, with another value, after the first look at scopes that are seen twice."""
    visits: list[Visit]
    together: bool
    """Whether scopes are saved in fact transaction."""


PARTS = ("key_metadata", "key_policy", "key_rotation", "key_grant", "key_rotation_event", "key_tag")
PARTS_OF_RESOURCE = ("key_reference", "resource_key", "resource_tag")
small = st.integers(0, 2)
changes = st.builds(
    Change,
    st.sampled_from(("key", "alias", "resource", "key", "resource", *PARTS, *PARTS_OF_RESOURCE)),
    st.integers(0, len(SCOPES) - 1),
    small,
    st.integers(0, 1),
    small,
)
visits = st.builds(
    Visit,
    st.sampled_from(("seen", "seen", "seen", "seen", "crashed", "twice", "missed", "failed")),
    st.integers(0, 90),
    st.frozensets(
        st.tuples(st.sampled_from(("key", "alias", "resource", *PARTS, *PARTS_OF_RESOURCE)), small), max_size=3
    ),
)
run_plans = st.builds(
    RunPlan,
    st.lists(changes, min_size=4, max_size=16),
    st.lists(st.tuples(st.integers(0, 15), small), max_size=6),
    st.lists(visits, min_size=len(SCOPES), max_size=len(SCOPES)),
    st.booleans(),
)
histories = st.lists(run_plans, min_size=RUNS_PER_HISTORY[0], max_size=RUNS_PER_HISTORY[1])


@dataclass
class World:
    """The simulated AWS: facts by table and natural key."""

    facts: dict[Name, Values] = field(default_factory=dict)

    def begin(self) -> None:
        """Create keys and resources with all their children, so that most changes apply to something."""
        for scope in range(len(SCOPES)):
            for what in ("key", "alias", "resource", *PARTS, *PARTS_OF_RESOURCE):
                for item in range(2):
                    for part in range(2):
                        self.happen(Change(what, scope, item, part, 1))

    def happen(self, change: Change) -> None:
        """Apply one change."""
        account, region = SCOPES[change.scope]
        key_arn = f"arn:aws:kms:{region}:{account}:key/{change.item}"
        resource_arn = f"arn:aws:rds:{region}:{account}:db:{change.item}"
        value, part = change.value, change.part
        scope = {"account_id": account, "region": region}
        of_key = {"key_arn": key_arn}
        role = {"resource_arn": resource_arn, "role": "storage", "position": part}
        facts: dict[str, tuple[str, Values]] = {
            "key": ("key", {**of_key, "key_id": str(change.item), **scope}),
            "alias": (
                "alias",
                {"alias_arn": f"{key_arn}/alias", "alias_name": "a", **scope, "target_key_arn": f"key {value}"},
            ),
            "resource": (
                "resource",
                {
                    "resource_arn": resource_arn,
                    "resource_type": TYPE,
                    **scope,
                    "listing_region": region,
                    "name": str(change.item),
                    "status": f"status {value}",
                },
            ),
            "key_metadata": ("key_metadata", {**of_key, "state": f"{value}", "enabled": value == 1}),
            "key_policy": ("key_policy", {**of_key, "policy_hash": bytes([value]) * 16}),
            "key_rotation": ("key_rotation", {**of_key, "status": "enabled", "period_days": value}),
            "key_grant": ("key_grant", {**of_key, "grant_id": f"g{part}", "name": f"{value}"}),
            "key_rotation_event": (
                "key_rotation_event",
                {**of_key, "rotated_at": dt.datetime(2026, 1, 1 + part, tzinfo=dt.UTC), "rotation_type": f"{value}"},
            ),
            "key_tag": ("tag", {"resource_arn": key_arn, "tag_key": f"t{part}", "tag_value": f"{value}"}),
            "resource_tag": ("tag", {"resource_arn": resource_arn, "tag_key": f"t{part}", "tag_value": f"{value}"}),
            "key_reference": ("key_reference", {**role, "raw_value": f"key {value}"}),
            "resource_key": ("resource_key", {**role, "key_arn": f"key {value}"}),
        }
        kind, values = facts[change.what]
        fact = row(FACT_TABLES[kind], **values)
        owner = {"resource_arn": resource_arn} if change.what in PARTS_OF_RESOURCE else {"key_arn": key_arn}
        if change.what in (*PARTS, *PARTS_OF_RESOURCE):
            parent = "resource" if change.what in PARTS_OF_RESOURCE else "key"
            if (parent, tuple(owner.values())) not in self.facts:
                return
        name = Version(kind, fact, 0).name
        if value:
            self.facts[kind, name] = fact
            return
        self.facts.pop((kind, name), None)
        if kind in {"key", "resource"}:
            for other in [fact for fact in self.facts if kind in KINDS[fact[0]].parents and fact[1][0] == name[0]]:
                del self.facts[other]

    def observe(self, run_id: int, number: int, visit: Visit) -> Observed:
        """The facts that a crawl of a scope returns; a denied listing returns its first item and proves no absence."""
        account, region = SCOPES[number]
        observed = Observed()

        def gap(operation: str, subject: str = "") -> None:
            values = {"account_id": account, "region": region, "service": "any", "operation": operation}
            observed.facts.append(
                ("gap", row(FACT_TABLES["gap"], **values, subject=subject, message=f"request {run_id} {subject}"))
            )

        observed.complete.add(("gap", (account, region)))
        if visit.outcome == "failed":
            gap("AssumeRole")
            return observed
        for kind, parts in (("key", PARTS), ("alias", ()), ("resource", PARTS_OF_RESOURCE)):
            listing_key = (account, region, TYPE) if kind == "resource" else (account, region)
            refused = any(what == kind for what, _ in visit.gaps)
            if refused:
                gap(f"List {kind}")
            else:
                observed.complete.add((kind, listing_key))
            for name in [fact for fact in self.facts if fact[0] == kind]:
                values = self.facts[name]
                item = int(name[1][0].split(":key/")[-1].split(":db:")[-1].split("/")[0])
                if (values["account_id"], values["region"]) != (account, region) or (refused and item > 0):
                    continue
                observed.facts.append((kind, values))
                for part in parts:
                    self._observe_details(observed, part, name[1][0])
                    if (part, item) in visit.gaps:
                        self._truncate(observed, part, name[1][0])
                        gap(part, name[1][0])
        return observed

    def _observe_details(self, observed: Observed, part: str, arn: str) -> None:
        kind = "tag" if part.endswith("_tag") else part
        observed.facts += [
            (kind, values) for fact, values in self.facts.items() if fact[0] == kind and fact[1][0] == arn
        ]
        if KINDS[kind].listing_key:
            observed.complete.add((kind, (arn,)))

    def _truncate(self, observed: Observed, part: str, arn: str) -> None:
        """Truncate a response after its first item."""
        kind = "tag" if part.endswith("_tag") else part
        observed.complete.discard((kind, (arn,)))
        shown = [fact for fact in observed.facts if fact[0] == kind and Version(*fact, 0).name[0] == arn]
        for fact in shown[1 if KINDS[kind].listing_key else 0 :]:
            observed.facts.remove(fact)


class Bomb:
    """Crashes a transaction after a number of statements, with an error or like a killed process."""

    def __init__(self, engine: Engine) -> None:
        self.left: int | None = None
        event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, connection: Connection, *_rest: Any) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.explode(connection)

    def explode(self, connection: Connection) -> None:
        """Crash now."""
        silently, self.left = self.left is not None and self.left % 2 == 0, None
        if silently:
            connection.invalidate()
        raise CrashError


def as_batch(observed: Observed) -> Batch:
    batch = Batch()
    for kind, values in observed.facts:
        batch.add(FACT_TABLES[kind], **values)
    for kind, listing_key in observed.complete:
        batch.mark_complete(FACT_TABLES[kind], *listing_key)
    return batch


def stored(engine: Engine) -> dict[str, list[tuple[str, int, int | None]]]:
    """Every version of every table, without its ID."""
    result = {}
    with engine.connect() as connection:
        for kind, model in FACT_TABLES.items():
            rows = connection.execute(select(model.table())).mappings()
            names = model.value_columns()
            result[kind] = sorted(
                (repr([fact[name] for name in names]), fact["valid_from"], fact["valid_to"]) for fact in rows
            )
    return result


def expected(reference: Reference) -> dict[str, list[tuple[str, int, int | None]]]:
    return {
        kind: sorted(
            (repr(list(fact.values.values())), fact.valid_from, fact.valid_to)
            for fact in reference.versions
            if fact.kind == kind
        )
        for kind in FACT_TABLES
    }


@dataclass
class HistoryChecker:
    """The ledger under test, and the numbers of runs and crashes."""

    engine: Engine
    bomb: Bomb
    runs: int = 0
    crashes: int = 0

    def check(self, history: list[RunPlan]) -> None:
        """Go through a history from an empty ledger."""
        with self.engine.begin() as connection:
            for model in FACT_TABLES.values():
                connection.execute(delete(model.table()))
        world, reference = World(), Reference()
        world.begin()
        for run_id, plan in enumerate(history, start=1):
            for change in plan.changes:
                world.happen(change)
            for number, visit in enumerate(plan.visits):
                if visit.outcome == "twice":
                    self._save(reference, run_id, world.observe(run_id, number, Visit("seen", 0, frozenset())))
            for index, value in plan.late:
                world.happen(replace(plan.changes[index % len(plan.changes)], value=value))
            self._crawl(world, reference, run_id, plan)
            self.runs += 1
            assert stored(self.engine) == expected(reference), f"after run {run_id}"
        with self.engine.connect() as connection:
            for run_id in range(len(history) + 1):
                known = sorted(repr(list(fact.values.values())) for fact in reference.as_of(run_id))
                assert known == sorted(
                    repr([fact[name] for name in model.value_columns()])
                    for model in FACT_TABLES.values()
                    for fact in connection.execute(open_rows(model, run_id)).mappings()
                ), f"as of run {run_id}"

    def _crawl(self, world: World, reference: Reference, run_id: int, plan: RunPlan) -> None:
        waiting = Observed()
        for number, visit in enumerate(plan.visits):
            if visit.outcome == "missed":
                continue
            observed = world.observe(run_id, number, visit)
            if visit.outcome == "crashed":
                self._crash(run_id, observed, visit.crash)
            if plan.together:
                waiting.extend(observed)
            else:
                self._save(reference, run_id, observed)
        self._save(reference, run_id, waiting)

    def _save(self, reference: Reference, run_id: int, observed: Observed) -> None:
        reference.merge(run_id, observed)
        with self.engine.begin() as connection:
            merged = merge(connection, run_id, as_batch(observed))
        assert (merged.opened, merged.closed) == (reference.opened, reference.closed)

    def _crash(self, run_id: int, observed: Observed, statements: int) -> None:
        self.bomb.left = statements
        try:
            with self.engine.begin() as connection:
                merge(connection, run_id, as_batch(observed))
                self.bomb.explode(connection)
        except CrashError:
            self.crashes += 1
        self.bomb.left = None


@pytest.fixture
def checker(ledger: Engine) -> HistoryChecker:
    return HistoryChecker(ledger, Bomb(ledger))


@pytest.mark.hypothesis
def test_random_histories_equal_the_reference(checker: HistoryChecker) -> None:
    """Random runs with changes, deletions, gaps and crashes: at least 64 on SQLite and 24 on PostgreSQL, 400 in deep tests."""
    number = examples(fast=FAST_HISTORIES[checker.engine.dialect.name], deep=20)
    number = int(os.environ.get("KMSLEDGER_HISTORIES", number))

    @settings(
        max_examples=number,
        derandomize="KMSLEDGER_HISTORIES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def check(history: list[RunPlan]) -> None:
        checker.check(history)

    check()
    assert checker.runs >= number * RUNS_PER_HISTORY[0]
    assert checker.crashes >= number // 4
