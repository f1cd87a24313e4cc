"""The last use of a key in the views: they report what AWS returned; everything else is unknown."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from models.settings import Settings
from models.store.engine import connect as store
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, merge
from models.tables.keys import KeyLastUse, KeyLastUseGap
from reports.answers.run_diff import diff
from reports.mart import as_of_connection
from reports.mart.connection import connect
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of

ACCOUNT, REGION = "111122223333", "eu-west-1"
RUN_STARTS = [dt.datetime(2026, 11, 20 + day, 3, 0, tzinfo=dt.UTC) for day in range(3)]
TRACKED = dt.datetime(2026, 3, 11, 18, 23, 45, 560_000, tzinfo=dt.UTC)
USED, AGAIN = (dt.datetime(2026, 11, day, 20, 15, tzinfo=dt.UTC) for day in (18, 20))
YOUNG, OLD = dt.datetime(2026, 6, 1, tzinfo=dt.UTC), dt.datetime(2021, 6, 1, tzinfo=dt.UTC)
DENIED = "denied: the key policy neither delegates the request to IAM nor allows it to the crawler's role"
COLUMNS = "last_use, last_use_reason, last_used_at, last_used_operation, last_use_polled_at"
Row = tuple[Any, ...]


def arn(name: str) -> str:
    return f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{name}"


class PollResults:
    """The results of one run's last-use requests."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.batch = Batch()

    def _polled(self, name: str) -> None:
        at = RUN_STARTS[self.run_id - 1] + dt.timedelta(minutes=5)
        self.batch.last_use_polls.append(LastUsePoll(arn(name), ACCOUNT, REGION, at))

    def answered(
        self, name: str, used: dt.datetime | None, tracked: dt.datetime | None, created: dt.datetime | None
    ) -> None:
        """Record a response."""
        self._polled(name)
        self.batch.add(
            KeyLastUse,
            key_arn=arn(name),
            operation="Decrypt" if used else None,
            used_at=used,
            cloudtrail_event_id="event" if used else None,
            tracking_started_at=tracked,
            key_created_at=created,
        )
        self.batch.mark_complete(KeyLastUseGap, arn(name))

    def refused(self, name: str, cause: str, code: str = "AccessDeniedException") -> None:
        """Record a denied or failed request."""
        self._polled(name)
        action = "kms:GetKeyLastUsage"
        self.batch.add(KeyLastUseGap, key_arn=arn(name), action=action, cause=cause, code=code, message="no")

    def save(self, url: str) -> None:
        """Merge the results into the ledger as part of the run."""
        engine = store(url)
        with engine.begin() as connection:
            merge(connection, self.run_id, self.batch)
        engine.dispose()


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Three runs: the first polls most keys, the second some of them again, the third none."""
    folder = tmp_path_factory.mktemp("last-use")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(ACCOUNT, "Shop", REGION)
    names = ("used", "born-with-tracking", "young", "old", "timeless", "locked", "once-locked", "lost", "away", "idle")
    for name in names:
        world.key(ACCOUNT, REGION, name)
    world.key(ACCOUNT, REGION, "managed", manager="AWS")
    assert world.crawl() == 1
    first = PollResults(1)
    first.answered("used", USED, TRACKED, OLD)
    first.answered("born-with-tracking", None, YOUNG, YOUNG)
    first.answered("young", None, TRACKED, YOUNG)
    first.answered("old", None, TRACKED, OLD)
    first.answered("timeless", None, None, None)
    first.answered("lost", USED, TRACKED, OLD)
    first.refused("locked", "key_policy")
    first.refused("once-locked", "key_policy")
    first.refused("away", "unreachable", "EndpointConnectionError")
    first.save(world.url)
    assert world.crawl() == 2
    second = PollResults(2)
    second.answered("used", AGAIN, TRACKED, OLD)
    second.answered("once-locked", USED, TRACKED, OLD)
    second.answered("young", AGAIN, TRACKED, YOUNG)
    second.refused("lost", "key_policy")
    second.refused("old", "key_policy")
    second.save(world.url)
    assert world.crawl() == 3
    settings = settings_of(database=world.url, report={"mart": folder / "mart.duckdb", "directory": folder})
    build_mart(settings)
    return settings


@pytest.fixture
def mart(crawled: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(crawled.report.mart) as connection:
        yield connection


def of(mart: duckdb.DuckDBPyConnection, name: str, view: str = "keys") -> Row:
    """The last use of a key: status, reason, time, operation, and the day of the request."""
    row = mart.execute(f"SELECT {COLUMNS} FROM {view} WHERE key_id = ?", [name]).fetchone()
    assert row is not None
    return (*row[:2], row[2] and row[2].replace(tzinfo=dt.UTC), row[3], row[4] and row[4].day)


CASES: dict[str, Row] = {
    "used": ("used", None, AGAIN, "Decrypt", 21),
    # Tracking began when the key was created.
    "born-with-tracking": ("never_used", "no use since it was created", None, None, 20),
    "young": ("used", None, AGAIN, "Decrypt", 21),
    "old": (
        "unknown",
        f"no use since tracking began on 2026-03-11; the key is older; latest request: {DENIED}",
        None,
        None,
        21,
    ),
    "timeless": ("unknown", "no use since tracking began, and AWS did not return its start", None, None, 20),
    "locked": ("unknown", DENIED, None, None, 20),
    "once-locked": ("used", None, USED, "Decrypt", 21),
    "lost": ("used", f"latest request: {DENIED}", USED, "Decrypt", 21),
    "away": ("unknown", "the endpoint could not be reached", None, None, 20),
    "idle": ("unknown", "not requested yet", None, None, None),
    "managed": ("unknown", "AWS managed key: not requested", None, None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_last_use_and_its_reason(mart: duckdb.DuckDBPyConnection, name: str) -> None:
    """Only keys that were tracked since their creation are never_used; the others without a use are unknown, with the reason."""
    assert of(mart, name) == CASES[name]


def test_a_denied_request_clears_the_report_time(mart: duckdb.DuckDBPyConnection) -> None:
    """A key whose latest request was denied may have been used since, so its answer has no report time."""
    query = "SELECT key_id, day(last_use_reported_at), last_use_tracked_since FROM keys WHERE key_id IN ('used', 'lost', 'idle')"
    tracked = TRACKED.replace(tzinfo=None)
    expected = {("used", 21, tracked), ("lost", None, tracked), ("idle", None, None)}
    assert set(mart.execute(query).fetchall()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("used", ("used", None, USED, "Decrypt", None)),
        ("young", ("never_used", "no use since it was created", None, None, None)),
        ("old", ("unknown", "no use since tracking began on 2026-03-11; the key is older", None, None, None)),
        ("once-locked", ("unknown", DENIED, None, None, None)),
        ("lost", ("used", None, USED, "Decrypt", None)),
        ("idle", ("unknown", "not requested yet", None, None, None)),
        ("locked", ("unknown", DENIED, None, None, 20)),
    ],
)
def test_last_use_as_of_an_earlier_run(crawled: Settings, name: str, expected: Row) -> None:
    """Macro and `--as-of` return the last use as of the first run; the time of the request is kept for the last one only."""
    with connect(crawled.report.mart) as connection:
        assert of(connection, name, "keys_as_of(1)") == expected
    connection, _ = as_of_connection.connect(crawled.report.mart, 1)
    with connection:
        assert of(connection, name) == expected


def test_a_denied_request_is_a_gap(mart: duckdb.DuckDBPyConnection) -> None:
    """Coverage has a row with cause and age for each denied request, and none for keys that were not polled yet."""
    rows = mart.execute(
        "SELECT split_part(key_arn, '/', 2), account_name, region, service, operation, action, outcome, cause, consecutive_runs "
        "FROM coverage WHERE operation = 'GetKeyLastUsage' ORDER BY 1"
    ).fetchall()
    scope = ("Shop", REGION, "kms", "GetKeyLastUsage", "kms:GetKeyLastUsage", "gap")
    assert rows == [
        ("away", *scope, "unreachable", 3),
        ("locked", *scope, "key_policy", 3),
        ("lost", *scope, "key_policy", 2),
        ("old", *scope, "key_policy", 2),
    ]
    then = "SELECT count(*) FROM coverage_as_of(1) WHERE operation = 'GetKeyLastUsage'"
    assert mart.execute(then).fetchall() == [(3,)]


def test_a_use_is_not_a_change(crawled: Settings, mart: duckdb.DuckDBPyConnection) -> None:
    """Neither the changes nor a diff include the last use of keys."""
    assert mart.execute("SELECT count(*) FROM changes").fetchall() == [(0,)]
    found = diff(crawled.report.mart, "1", "3")
    assert found.events == []


def test_a_denied_request_keeps_other_facts_current(mart: duckdb.DuckDBPyConnection) -> None:
    """Many keys deny this call, which does not make their other facts stale."""
    assert mart.execute("SELECT DISTINCT freshness, denied_actions FROM keys").fetchall() == [("current", [])]
