"""Generates a ledger with one year of history in SQL: in every run, 1 % of the changeable rows change.

The number of a row determines the runs in which it changes. Tables are written run by run, and each version is
inserted with its end, so no row is ever updated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.history_tables import ACCOUNT, KEY, KEYS_PER_POLICY, REGION, TABLES, TRUST_HASH, HistoryTable
from models.store.engine import connect, upgrade
from models.store.policy_canonical import canonical_policy

KNOWN_PARTY = "999000000000"
"""The external account that one policy in five admits; the settings name it."""
CHANGE_INTERVAL = 100
"""In each run, one in this number of rows changes."""
FLAW_INTERVAL = 171
"""One key in this number violates rules, together with the resource that uses it: some 50,000 findings per million keys.

A change can move the flaws to the next key. With 1, every key has flaws: nine findings per key.
"""
SCOPE = 250
"""Keys of one account in one region."""


class HistoryLedger:
    """A ledger with ``keys`` keys. :meth:`write` writes ``runs`` runs at once, :meth:`run` adds one more."""

    def __init__(self, path: Path, keys: int, runs: int, flaw_interval: int = FLAW_INTERVAL) -> None:
        if keys % (CHANGE_INTERVAL * KEYS_PER_POLICY):
            raise ValueError(f"the number of keys must be a multiple of {CHANGE_INTERVAL * KEYS_PER_POLICY}")
        self.url = f"sqlite:///{path}"
        self.path = path
        self.keys = keys
        self.runs = runs
        self.flaw_interval = flaw_interval

    def write(self) -> None:
        """Write all runs; indexes are created after the rows. Replaces what an interrupted benchmark has left."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        engine = connect(self.url)
        upgrade(engine)
        engine.dispose()
        with _open(self.path) as database:
            database.execute("PRAGMA journal_mode=OFF")
            indexes = database.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql > ''"
            ).fetchall()
            for name, _ in indexes:
                database.execute(f"DROP INDEX {name}")
            self._runs(database, 1, self.runs)
            self._documents(database, range(1, self.runs + 1))
            for table in TABLES:
                self._insert(database, table, 1)
                if table.salt is not None:
                    for run in range(2, self.runs + 1):
                        self._insert(database, table, run)
            database.execute(
                f"INSERT INTO key_last_use_poll (key_arn, account_id, region, polled_at, run_id) "
                f"SELECT {KEY.format(i='n')}, {ACCOUNT.format(i='n')}, {REGION.format(i='n')}, "
                f"'2026-01-01 00:00:00.000000', {self.runs} FROM number WHERE n < {self.keys}"
            )
            for _, text in indexes:
                database.execute(text)
            database.commit()
        with _open(self.path) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("ANALYZE")
            database.commit()

    def reuse(self) -> None:
        """Use an existing ledger instead of writing it."""
        with _open(self.path) as database:
            (self.keys,) = database.execute("SELECT count(*) FROM key").fetchone()
            (self.runs,) = database.execute("SELECT max(run_id) FROM run").fetchone()

    def backfill_analyses(self) -> None:
        """Copy the analyses of the current policies to the earlier ones; call it after the first access analysis."""
        with _open(self.path) as database:
            database.execute(
                "INSERT INTO key_analysis (key_arn, analysis_id, valid_from, valid_to, content_hash) "
                "SELECT p.key_arn, a.analysis_id, p.valid_from, p.valid_to, a.content_hash "
                "FROM key_policy p JOIN key_analysis a ON a.key_arn = p.key_arn AND a.valid_to IS NULL "
                "WHERE p.valid_to IS NOT NULL ORDER BY p.version_id"
            )
            database.execute(
                "UPDATE key_analysis SET valid_from = p.valid_from FROM key_policy p "
                "WHERE p.key_arn = key_analysis.key_arn AND p.valid_to IS NULL AND key_analysis.valid_to IS NULL"
            )
            # The watermark of the analysis refers to the last version, which has changed.
            last = database.execute(
                "SELECT version_id, key_arn || ' ' || lower(hex(content_hash)) || ' ' || valid_from FROM key_analysis "
                "ORDER BY version_id DESC LIMIT 1"
            ).fetchone()
            database.execute(
                "UPDATE analysis_watermark SET version_id = ?, identity = ? WHERE name = 'key_analysis'", last
            )
            database.commit()

    def run(self) -> int:
        """Add one run, which closes and inserts versions. Returns the number of rows written."""
        self.runs += 1
        written = 0
        with _open(self.path) as database:
            self._runs(database, self.runs, self.runs)
            self._documents(database, range(self.runs, self.runs + 1))
            for table in TABLES:
                if table.salt is not None:
                    written += self._close(database, table) + self._insert(database, table, self.runs)
            written += database.execute(
                f"UPDATE key_last_use_poll SET polled_at = '2026-06-01 00:00:00.000000', run_id = {self.runs} "
                f"WHERE key_arn IN (SELECT {KEY.format(i='n')} FROM number WHERE n < {self.keys} AND n % 100 = 7)"
            ).rowcount
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return written

    def _runs(self, database: sqlite3.Connection, first: int, last: int) -> None:
        database.execute("CREATE TEMP TABLE IF NOT EXISTS number (n INTEGER PRIMARY KEY)")
        if not database.execute("SELECT 1 FROM number LIMIT 1").fetchone():
            database.execute(
                "WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < ?) "
                "INSERT INTO number SELECT n FROM c",
                (max(self.keys, 1000),),
            )
        for run in range(first, last + 1):
            database.execute(
                "INSERT INTO run (run_id, started_at, finished_at, status, version, organization_id, accounts, scopes, "
                "calls, gaps) VALUES (?, strftime('%Y-%m-%d %H:%M:%S', '2025-11-22 03:00', ?) || '.000000', "
                "strftime('%Y-%m-%d %H:%M:%S', '2025-11-22 04:00', ?) || '.000000', 'complete', '0', 'o-exampleorg1', 0, "
                "0, 0, 0)",
                (run, f"+{run} days", f"+{run} days"),
            )
            database.execute(
                "INSERT INTO scope_coverage (run_id, account_id, region, outcome, calls, retries, gaps) "
                f"SELECT {run}, {ACCOUNT.format(i='(n * 250)')}, {REGION.format(i='(n * 250)')}, 'complete', 0, 0, 0 "
                f"FROM number WHERE n < {self.keys // SCOPE} UNION ALL "
                f"SELECT {run}, {ACCOUNT.format(i='(n * 1000)')}, 'global', 'complete', 0, 0, 0 "
                f"FROM number WHERE n < {max(self.keys // 1000, 1)}"
            )

    def _documents(self, database: sqlite3.Connection, runs: range) -> None:
        policies = self.keys // KEYS_PER_POLICY

        def rows() -> Iterator[tuple[bytes, str, str]]:
            if runs.start == 1:
                yield TRUST_HASH, canonical_policy(_TRUST), _TRUST
            for run in runs:
                step = 1 if run == 1 else CHANGE_INTERVAL
                for policy in range(0 if run == 1 else _offset(run, 37), policies, step):
                    account = 111_000_000_000 + policy * KEYS_PER_POLICY // 1000 * 7919
                    flawed = (policy + _version(run)) % self.flaw_interval == self.flaw_interval // 2
                    received = _policy(account, policy, _version(run), flawed=flawed)
                    digest = b"%08x%08x" % (policy, _version(run))
                    yield digest, canonical_policy(received), received

        database.executemany("INSERT INTO policy_document (policy_hash, canonical, received) VALUES (?, ?, ?)", rows())

    def _insert(self, database: sqlite3.Connection, table: HistoryTable, run: int) -> int:
        version = _version(run)
        # A row that never changes describes the last run.
        numbers = {
            "i": "r.i",
            "c": "r.c",
            "v": version,
            "f": self.flaw_interval,
            "run": run if table.salt else self.runs,
        }
        columns = {name: text.format(**numbers) for name, text in table.columns.items()}
        if table.salt is None:
            ends = "NULL"
        elif run == 1:
            # The run of the first change.
            ends = f"2 + r.b * {_inverse(table.salt)} % {CHANGE_INTERVAL}"
        else:
            ends = str(run + CHANGE_INTERVAL)
        names = ", ".join(f'"{name}"' for name in columns)
        if table.salt is not None:
            ends = f"CASE WHEN {ends} <= {self.runs} THEN {ends} END"
        statement = (
            f'INSERT INTO "{table.name}" ({names}, valid_from, valid_to, content_hash) '
            f"SELECT {', '.join(columns.values())}, {run}, {ends}, x'00000000000000000000000000000000' "
            f"FROM {self._rows(table, run)} AS r WHERE {table.where.format(**numbers)}"
        )
        return database.execute(statement).rowcount

    def _close(self, database: sqlite3.Connection, table: HistoryTable) -> int:
        previous_version = _version(self.runs - CHANGE_INTERVAL) if self.runs > CHANGE_INTERVAL + 1 else 0
        numbers = {"i": "r.i", "c": "r.c", "v": previous_version, "f": self.flaw_interval}
        columns = [table.columns[name].format(**numbers) for name in table.natural_key]
        join = " AND ".join(f'"{table.name}"."{name}" = o."{name}"' for name in table.natural_key)
        keys_sql = ", ".join(f'{text} AS "{name}"' for text, name in zip(columns, table.natural_key, strict=True))
        database.execute(f"CREATE TEMP TABLE ending AS SELECT {keys_sql} FROM {self._rows(table, self.runs)} AS r")
        closed = database.execute(
            f'UPDATE "{table.name}" SET valid_to = {self.runs} WHERE version_id IN (SELECT "{table.name}".version_id '
            f'FROM ending o CROSS JOIN "{table.name}" ON {join} AND "{table.name}".valid_to IS NULL)'
        ).rowcount
        database.execute("DROP TABLE ending")
        return closed

    def _rows(self, table: HistoryTable, run: int) -> str:
        """A subquery for the rows of a run with ``i``, ``c`` and ``b`` (the block that changes together)."""
        every = "" if run == 1 else f" * {CHANGE_INTERVAL} + {_offset(run, table.salt or 0)}"
        count = self.keys * table.rows // (1 if run == 1 else CHANGE_INTERVAL)
        if table.block > 1:
            block = f"(n / {table.block}{every})"
            key = f"{block} * {table.block} + n % {table.block}"
            return f"(SELECT {key} AS i, 0 AS c, {block} AS b FROM number WHERE n < {count})"
        if table.rows > 1:
            part = self.keys // (1 if run == 1 else CHANGE_INTERVAL)
            number = f"((n + k * {part}){every})"
            return (
                f"(SELECT {number} / {table.rows} AS i, {number} % {table.rows} AS c, {number} AS b "
                f"FROM (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2), number WHERE n < {part})"
            )
        return f"(SELECT (n{every}) AS i, 0 AS c, (n{every}) AS b FROM number WHERE n < {count})"


def _version(run: int) -> int:
    """The number of the version that begins in a run."""
    return 0 if run == 1 else (run - 2) // CHANGE_INTERVAL + 1


def _offset(run: int, salt: int) -> int:
    """The remainder of the numbers of the rows that change in a run."""
    return (run - 2) * salt % CHANGE_INTERVAL


def _inverse(salt: int) -> int:
    return pow(salt, -1, CHANGE_INTERVAL)


_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    }
)


def _policy(account: int, number: int, version: int, *, flawed: bool) -> str:
    roles = [f"arn:aws:iam::{account}:role/app-{number}-{n}-{version}" for n in range(3)]
    use = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:ReEncrypt*"]
    statements = [
        {"Sid": "Root", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*"},
        {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": roles}, "Action": use},
    ]
    if flawed or number % 5 == 0:
        outsider = f"{int(KNOWN_PARTY) + number}" if flawed else KNOWN_PARTY
        statements.append({"Sid": "Vendor", "Effect": "Allow", "Principal": {"AWS": outsider}, "Action": "kms:Decrypt"})
    return json.dumps({"Version": "2012-10-17", "Statement": [n | {"Resource": "*"} for n in statements]})


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    # Closed immediately: the mart uses another copy of SQLite, and two copies in a process do not see each other's locks.
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA temp_store=MEMORY")
        database.execute("PRAGMA cache_size=-500000")
        yield database
