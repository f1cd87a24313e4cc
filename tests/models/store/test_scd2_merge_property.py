"""Random nights through the merge, on SQLite and PostgreSQL, compared with plain Python after each.

Keys, aliases and resources of two accounts in two regions come, change and go. Nights see them whole or with gaps at any
level, are cut short, crash in the middle of a transaction and go on, or look twice. Whatever happened, all rows of all
tables are those of the reference, and every earlier run can still be asked for what it knew.

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
from tests.models.store.reference_merge import KINDS, Learned, Reference, Values, Version

HISTORIES = int(os.environ.get("KMSLEDGER_HISTORIES", examples(fast=16, deep=200)))
NIGHTS = (4, 5)
ACCOUNTS, REGIONS = ("000000000001", "222222222222"), ("eu-west-1", "us-east-1")
SCOPES = [(account, region) for account in ACCOUNTS for region in REGIONS]
TYPE = "AWS::RDS::DBInstance"
FACETS = {name: model for name, model in versioned_tables().items() if name in KINDS}

Name = tuple[str, tuple[Any, ...]]


class CrashError(Exception):
    """The program dies here."""


@dataclass(frozen=True)
class Change:
    """Something happens in AWS: ``what`` of one item of one scope takes a value; 0 takes it away."""

    what: str
    scope: int
    item: int
    part: int
    value: int


@dataclass(frozen=True)
class Visit:
    """How one scope is seen in a night."""

    outcome: str
    """``seen``, ``missed`` (never reached), ``failed`` (only a gap), ``crashed`` (then tried again), ``twice``."""
    crash: int
    """Statements until the crash."""
    gaps: frozenset[tuple[str, int]]
    """What is refused: a listing or detail, and of which item."""


@dataclass(frozen=True)
class Night:
    """What happens in AWS during the day and during the night, and how the night sees it."""

    changes: list[Change]
    late: list[tuple[int, int]]
    """Which of the changes happen again, with another value, after the first look at scopes that are seen twice."""
    visits: list[Visit]
    together: bool
    """Whether scopes are saved in one transaction."""


PARTS = ("key_metadata", "key_policy", "key_rotation", "key_grant", "key_rotation_event", "key_tag")
PARTS_OF_RESOURCE = ("key_reference", "key_usage", "resource_tag")
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
nights = st.builds(
    Night,
    st.lists(changes, min_size=4, max_size=16),
    st.lists(st.tuples(st.integers(0, 15), small), max_size=6),
    st.lists(visits, min_size=len(SCOPES), max_size=len(SCOPES)),
    st.booleans(),
)
histories = st.lists(nights, min_size=NIGHTS[0], max_size=NIGHTS[1])


@dataclass
class World:
    """AWS as it is: facts by kind and natural key."""

    facts: dict[Name, Values] = field(default_factory=dict)

    def begin(self) -> None:
        """Keys and resources with everything that describes them: most of what happens needs something to happen to."""
        for scope in range(len(SCOPES)):
            for what in ("key", "alias", "resource", *PARTS, *PARTS_OF_RESOURCE):
                for item in range(2):
                    for part in range(2):
                        self.happen(Change(what, scope, item, part, 1))

    def happen(self, change: Change) -> None:
        """Let one thing happen."""
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
            "key_rotation": ("key_rotation", {**of_key, "status": "on", "period_days": value}),
            "key_grant": ("key_grant", {**of_key, "grant_id": f"g{part}", "name": f"{value}"}),
            "key_rotation_event": (
                "key_rotation_event",
                {**of_key, "rotated_at": dt.datetime(2026, 1, 1 + part, tzinfo=dt.UTC), "rotation_type": f"{value}"},
            ),
            "key_tag": ("tag", {"resource_arn": key_arn, "tag_key": f"t{part}", "tag_value": f"{value}"}),
            "resource_tag": ("tag", {"resource_arn": resource_arn, "tag_key": f"t{part}", "tag_value": f"{value}"}),
            "key_reference": ("key_reference", {**role, "raw": f"key {value}"}),
            "key_usage": ("key_usage", {**role, "key_arn": f"key {value}"}),
        }
        kind, values = facts[change.what]
        fact = row(FACETS[kind], **values)
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
            for other in [one for one in self.facts if kind in KINDS[one[0]].describes and one[1][0] == name[0]]:
                del self.facts[other]

    def look(self, run_id: int, number: int, visit: Visit) -> Learned:
        """What a crawl of a scope learns: a refused listing shows its first item only and proves nothing gone."""
        account, region = SCOPES[number]
        learned = Learned()

        def gap(operation: str, subject: str = "") -> None:
            values = {"account_id": account, "region": region, "service": "any", "operation": operation}
            learned.facts.append(
                ("gap", row(FACETS["gap"], **values, subject=subject, message=f"request {run_id} {subject}"))
            )

        learned.complete.add(("gap", (account, region)))
        if visit.outcome == "failed":
            gap("AssumeRole")
            return learned
        for kind, parts in (("key", PARTS), ("alias", ()), ("resource", PARTS_OF_RESOURCE)):
            listing_key = (account, region, TYPE) if kind == "resource" else (account, region)
            refused = any(what == kind for what, _ in visit.gaps)
            if refused:
                gap(f"List {kind}")
            else:
                learned.complete.add((kind, listing_key))
            for name in [one for one in self.facts if one[0] == kind]:
                values = self.facts[name]
                item = int(name[1][0].split(":key/")[-1].split(":db:")[-1].split("/")[0])
                if (values["account_id"], values["region"]) != (account, region) or (refused and item > 0):
                    continue
                learned.facts.append((kind, values))
                for part in parts:
                    self._look_closer(learned, part, name[1][0])
                    if (part, item) in visit.gaps:
                        self._forget(learned, part, name[1][0])
                        gap(part, name[1][0])
        return learned

    def _look_closer(self, learned: Learned, part: str, arn: str) -> None:
        kind = "tag" if part.endswith("_tag") else part
        learned.facts += [(kind, values) for one, values in self.facts.items() if one[0] == kind and one[1][0] == arn]
        if KINDS[kind].listing_key:
            learned.complete.add((kind, (arn,)))

    def _forget(self, learned: Learned, part: str, arn: str) -> None:
        """An answer that broke off after its first item."""
        kind = "tag" if part.endswith("_tag") else part
        learned.complete.discard((kind, (arn,)))
        shown = [one for one in learned.facts if one[0] == kind and Version(*one, 0).name[0] == arn]
        for one in shown[1 if KINDS[kind].listing_key else 0 :]:
            learned.facts.remove(one)


class Bomb:
    """Crashes a transaction after a number of statements: by an error, or like a killed program, without a word."""

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


def as_batch(learned: Learned) -> Batch:
    batch = Batch()
    for kind, values in learned.facts:
        batch.add(FACETS[kind], **values)
    for kind, listing_key in learned.complete:
        batch.mark_complete(FACETS[kind], *listing_key)
    return batch


def stored(engine: Engine) -> dict[str, list[tuple[str, int, int | None]]]:
    """Every version of every table, without its number."""
    result = {}
    with engine.connect() as connection:
        for kind, model in FACETS.items():
            rows = connection.execute(select(model.table())).mappings()
            names = model.value_columns()
            result[kind] = sorted(
                (repr([one[name] for name in names]), one["valid_from"], one["valid_to"]) for one in rows
            )
    return result


def expected(reference: Reference) -> dict[str, list[tuple[str, int, int | None]]]:
    return {
        kind: sorted(
            (repr(list(one.values.values())), one.begun, one.ended) for one in reference.versions if one.kind == kind
        )
        for kind in FACETS
    }


@dataclass
class Ledger:
    """The ledger under test, the reference beside it, and the nights that both have gone through."""

    engine: Engine
    bomb: Bomb
    nights: int = 0
    crashes: int = 0

    def live(self, history: list[Night]) -> None:
        """Go through a history from an empty ledger."""
        with self.engine.begin() as connection:
            for model in FACETS.values():
                connection.execute(delete(model.table()))
        world, reference = World(), Reference()
        world.begin()
        for run_id, night in enumerate(history, start=1):
            for change in night.changes:
                world.happen(change)
            for number, visit in enumerate(night.visits):
                if visit.outcome == "twice":
                    self._save(reference, run_id, world.look(run_id, number, Visit("seen", 0, frozenset())))
            for index, value in night.late:
                world.happen(replace(night.changes[index % len(night.changes)], value=value))
            self._night(world, reference, run_id, night)
            self.nights += 1
            assert stored(self.engine) == expected(reference), f"after night {run_id}"
        with self.engine.connect() as connection:
            for run_id in range(len(history) + 1):
                known = sorted(repr(list(one.values.values())) for one in reference.as_of(run_id))
                assert known == sorted(
                    repr([one[name] for name in model.value_columns()])
                    for model in FACETS.values()
                    for one in connection.execute(open_rows(model, run_id)).mappings()
                ), f"as of night {run_id}"

    def _night(self, world: World, reference: Reference, run_id: int, night: Night) -> None:
        waiting = Learned()
        for number, visit in enumerate(night.visits):
            if visit.outcome == "missed":
                continue
            learned = world.look(run_id, number, visit)
            if visit.outcome == "crashed":
                self._crash(run_id, learned, visit.crash)
            if night.together:
                waiting.extend(learned)
            else:
                self._save(reference, run_id, learned)
        self._save(reference, run_id, waiting)

    def _save(self, reference: Reference, run_id: int, learned: Learned) -> None:
        reference.merge(run_id, learned)
        with self.engine.begin() as connection:
            merged = merge(connection, run_id, as_batch(learned))
        assert (merged.opened, merged.closed) == (reference.opened, reference.closed)

    def _crash(self, run_id: int, learned: Learned, statements: int) -> None:
        self.bomb.left = statements
        try:
            with self.engine.begin() as connection:
                merge(connection, run_id, as_batch(learned))
                self.bomb.explode(connection)
        except CrashError:
            self.crashes += 1
        self.bomb.left = None


@pytest.fixture
def living(ledger: Engine) -> Ledger:
    return Ledger(ledger, Bomb(ledger))


@pytest.mark.hypothesis
def test_any_history_is_the_one_that_plain_python_keeps(living: Ledger) -> None:
    """Random runs on each engine, at least 64, and 800 in the deep profile: changes, removals, gaps, crashes."""

    @settings(
        max_examples=HISTORIES,
        derandomize="KMSLEDGER_HISTORIES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def live(history: list[Night]) -> None:
        living.live(history)

    live()
    assert living.nights >= HISTORIES * NIGHTS[0]
    assert living.crashes >= HISTORIES // 4
