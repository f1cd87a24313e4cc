"""Differences between any two of a series of nights in which anything may happen."""

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
from tests.reports.answers.random_runs import Nights
from tests.reports.ledger_builder import settings_of

NIGHTS = 6
ADDED_BY_DIFF = {"rotated"}
"""Kinds that the changes of a night do not have."""


@pytest.fixture(scope="module", params=[3, *(pytest.param(seed, marks=pytest.mark.deep) for seed in (4, 5, 6))])
def mart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six nights and their mart."""
    folder = tmp_path_factory.mktemp("nights")
    nights = Nights(f"sqlite:///{folder / 'ledger.db'}", request.param)
    for night in range(NIGHTS):
        if night:
            nights.pass_one()
        nights.world.crawl()
    build(nights.world.url, folder / "mart.duckdb", settings_of())
    return folder / "mart.duckdb"


@pytest.fixture
def reader(mart: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(mart) as connection:
        yield connection


@pytest.mark.parametrize("night", range(2, NIGHTS + 1))
def test_a_night_s_differences_are_its_changes(mart: Path, reader: duckdb.DuckDBPyConnection, night: int) -> None:
    """Between a run and the one before it, the sentences are those of the view changes, and no metadata is left untold."""
    found = diff(mart, str(night - 1), str(night))
    query = "SELECT event_type, message, severity, before, after FROM changes WHERE run_id = ?"
    expected = sorted(map(str, reader.execute(query, [night]).fetchall()))
    told = [event for event in found.events if event.event_type not in ADDED_BY_DIFF]
    untold = [event for event in told if event.event_type == "metadata_changed" and event.severity == "info"]
    listed = (event for event in told if event not in untold)
    assert sorted(str((one.event_type, one.message, one.severity, one.before, one.after)) for one in listed) == expected


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


@pytest.mark.parametrize("ends", list(combinations(range(1, NIGHTS + 1), 2)))
def test_what_is_told_is_so(mart: Path, reader: duckdb.DuckDBPyConnection, ends: tuple[int, int]) -> None:
    """Over any span, each told tag, alias and key differs between the two snapshots, and each that is gone is told."""
    first, second = (snapshot(reader, run) for run in ends)
    (keys, tags, aliases, policies), (new_keys, new_tags, new_aliases, new_policies) = first, second
    events = diff(mart, str(ends[0]), str(ends[1])).events
    by_kind: dict[str, set[str]] = {}
    for event in events:
        by_kind.setdefault(event.event_type, set()).add(event.key_arn or "")
    both = keys & new_keys
    assert by_kind.get("key_gone", set()) == keys - new_keys
    assert by_kind.get("key_created", set()) <= new_keys - keys
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
    assert by_kind.get("policy_changed", set()) | by_kind.get("policy_opened", set()) == rewritten
    assert {event.key_arn for event in events if event.event_type.startswith("policy_") and event.details} == rewritten
    for event in events:
        if event.event_type.startswith("grant_") or event.event_type in {
            "key_state",
            "deletion_scheduled",
            "rotation_changed",
        }:
            assert event.details, event


def test_the_same_run_twice_differs_in_nothing(mart: Path) -> None:
    """From a run to itself there are no differences."""
    assert diff(mart, "3", "3").events == []
