"""Differences between any two of a series of random runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reports.answers.run_diff import diff
from reports.mart.build import build
from reports.mart.connection import connect
from tests.reports.answers.random_runs import RandomRuns
from tests.reports.ledger_builder import settings_of

pytestmark = pytest.mark.deep  # random histories, and a mart after each run

RUNS = 6
ADDED_BY_DIFF = {"rotated"}
"""Event types that view changes does not have."""


@pytest.fixture(scope="module")
def mart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mart of six random runs."""
    folder = tmp_path_factory.mktemp("runs")
    runs = RandomRuns(f"sqlite:///{folder / 'ledger.db'}", seed=3)
    for number in range(RUNS):
        if number:
            runs.apply_changes()
        runs.world.crawl()
    build(runs.world.url, folder / "mart.duckdb", settings_of())
    return folder / "mart.duckdb"


@pytest.fixture
def reader(mart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(mart) as connection:
        yield connection


@pytest.mark.parametrize("run", range(2, RUNS + 1))
def test_differences_of_consecutive_runs_are_changes(mart: Path, reader: duckdb.DuckDBPyConnection, run: int) -> None:
    """The differences from the previous run are the rows of view changes, and otherwise unreported metadata changes."""
    difference = diff(mart, str(run - 1), str(run))
    query = "SELECT event_type, message, severity, before, after FROM changes WHERE run_id = ?"
    expected = sorted(map(str, reader.execute(query, [run]).fetchall()))
    events = [event for event in difference.events if event.event_type not in ADDED_BY_DIFF]
    added = [event for event in events if event.event_type == "metadata_changed" and event.severity == "info"]
    rows = [
        (event.event_type, event.message, event.severity, event.before, event.after)
        for event in events
        if event not in added
    ]
    assert sorted(map(str, rows)) == expected


def snapshot(
    reader: duckdb.DuckDBPyConnection, run: int
) -> tuple[set[str], set[tuple[str, ...]], dict[str, str], dict[str, str]]:
    """The keys, tags, aliases and policies as of a run."""

    def rows(query: str) -> list[Any]:
        return reader.execute(query.format(run=f"_as_of({run:d})")).fetchall()

    keys = {arn for (arn,) in rows("SELECT key_arn FROM keys{run}")}
    tags = set(rows("SELECT key_arn, tag_key, tag_value FROM key_tags{run}"))
    aliases = dict(rows("SELECT alias_name || account_id || region, target_key_arn FROM aliases{run}"))
    policies = dict(rows("SELECT key_arn, policy FROM key_policies{run}"))
    return keys, tags, aliases, policies


@pytest.mark.parametrize("ends", list(combinations(range(1, RUNS + 1), 2)))
def test_differences_match_snapshots(mart: Path, reader: duckdb.DuckDBPyConnection, ends: tuple[int, int]) -> None:
    """Between any two runs, reported tags, aliases and keys differ between the snapshots, and every deletion is reported."""
    first, second = (snapshot(reader, run) for run in ends)
    (keys, tags, aliases, policies), (new_keys, new_tags, new_aliases, new_policies) = first, second
    events = diff(mart, str(ends[0]), str(ends[1])).events
    keys_by_type: dict[str, set[str]] = {}
    for event in events:
        keys_by_type.setdefault(event.event_type, set()).add(event.key_arn or "")
    both = keys & new_keys
    assert keys_by_type.get("key_gone", set()) == keys - new_keys
    assert keys_by_type.get("key_created", set()) <= new_keys - keys
    removed = {
        (arn, value)
        for arn, key, value in tags - new_tags
        if arn in both and key not in {tag for other, tag, _ in new_tags if other == arn}
    }
    assert {
        (event.key_arn, event.before)
        for event in events
        if event.event_type == "tag_removed" and not event.resource_arn
    } == removed
    moved = {name for name in aliases.keys() & new_aliases.keys() if aliases[name] != new_aliases[name]}
    assert len([event for event in events if event.event_type == "alias_moved"]) == len(moved)
    rewritten = {arn for arn in both & policies.keys() & new_policies.keys() if policies[arn] != new_policies[arn]}
    assert keys_by_type.get("policy_changed", set()) | keys_by_type.get("policy_opened", set()) == rewritten
    assert {event.key_arn for event in events if event.event_type.startswith("policy_") and event.details} == rewritten
    for event in events:
        if event.event_type.startswith("grant_") or event.event_type in {
            "key_state",
            "deletion_scheduled",
            "rotation_changed",
        }:
            assert event.details, event


def test_a_run_has_no_differences_from_itself(mart: Path) -> None:
    """A run compared with itself has no differences."""
    assert diff(mart, "3", "3").events == []
