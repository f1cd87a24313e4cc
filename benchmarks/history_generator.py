"""A ledger of one year for the benchmark of the mart, written by SQL: in every night 1 % of the rows that can change do.

A row's number decides in which nights it changes: those that are its residue apart. So a table is written night by night,
each version with its end, and no row is ever updated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.history_tables import ACCOUNT, KEY, REGION, SHARED, TABLES, YearTable
from models.store.engine import connect, upgrade
from models.store.policy_canonical import canonical_policy

EVERY = 100
"""One in so many rows changes in a night."""
SCOPE = 250
"""Keys of one account in one region."""


class Year:
    """The ledger of so many keys; ``nights`` are written at once, the one after them by :meth:`night`."""

    def __init__(self, path: Path, keys: int, nights: int) -> None:
        if keys % (EVERY * SHARED):
            raise ValueError(f"keys come in multiples of {EVERY * SHARED}")
        self.url = f"sqlite:///{path}"
        self.path = path
        self.keys = keys
        self.nights = nights

    def write(self) -> None:
        """All nights but the last one; indexes come after the rows."""
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
            self._runs(database, 1, self.nights)
            self._documents(database, range(1, self.nights + 1))
            for table in TABLES:
                self._insert(database, table, 1)
                if table.salt is not None:
                    for night in range(2, self.nights + 1):
                        self._insert(database, table, night)
            database.execute(
                f"INSERT INTO key_last_use_asked (key_arn, account_id, region, asked_at, run_id) "
                f"SELECT {KEY.format(i='n')}, {ACCOUNT.format(i='n')}, {REGION.format(i='n')}, "
                f"'2026-01-01 00:00:00.000000', {self.nights} FROM number WHERE n < {self.keys}"
            )
            for _, text in indexes:
                database.execute(text)
            database.commit()
        with _open(self.path) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("ANALYZE")
            database.commit()

    def go_on(self) -> None:
        """Take a ledger as it is in place of writing it."""
        with _open(self.path) as database:
            (self.keys,) = database.execute("SELECT count(*) FROM key").fetchone()
            (self.nights,) = database.execute("SELECT max(run_id) FROM run").fetchone()

    def analysed_before(self) -> None:
        """Give the policies of the past the analyses that today's have; comes after the first assessment."""
        with _open(self.path) as database:
            database.execute(
                "INSERT INTO key_analysis (key_arn, analysis_id, valid_from, valid_to, content) "
                "SELECT p.key_arn, a.analysis_id, p.valid_from, p.valid_to, a.content "
                "FROM key_policy p JOIN key_analysis a ON a.key_arn = p.key_arn AND a.valid_to IS NULL "
                "WHERE p.valid_to IS NOT NULL ORDER BY p.version_id"
            )
            database.execute(
                "UPDATE key_analysis SET valid_from = p.valid_from FROM key_policy p "
                "WHERE p.key_arn = key_analysis.key_arn AND p.valid_to IS NULL AND key_analysis.valid_to IS NULL"
            )
            # The state of the assessment names the last version: it is another one now.
            last = database.execute(
                "SELECT version_id, key_arn || ' ' || lower(hex(content)) || ' ' || valid_from FROM key_analysis "
                "ORDER BY version_id DESC LIMIT 1"
            ).fetchone()
            database.execute("UPDATE access_state SET version_id = ?, identity = ? WHERE name = 'key_analysis'", last)
            database.commit()

    def night(self) -> int:
        """One more night: versions end, others begin. Returns how many rows were written."""
        self.nights += 1
        written = 0
        with _open(self.path) as database:
            self._runs(database, self.nights, self.nights)
            self._documents(database, range(self.nights, self.nights + 1))
            for table in TABLES:
                if table.salt is not None:
                    written += self._end(database, table) + self._insert(database, table, self.nights)
            written += database.execute(
                f"UPDATE key_last_use_asked SET asked_at = '2026-06-01 00:00:00.000000', run_id = {self.nights} "
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
        if first == 1:
            account = ACCOUNT.format(i="(n * 1000)")
            database.execute(
                "INSERT INTO account (account_id, name, state, is_management, selection, ou_ids, valid_from, content) "
                f"SELECT {account}, 'account-' || n, 'ACTIVE', n = 0, 'crawled', 'r-abcd/ou-abcd-' || (n % 20), 1, x'00' "
                f"FROM number WHERE n < {max(self.keys // 1000, 1)}"
            )
        for night in range(first, last + 1):
            database.execute(
                "INSERT INTO run (run_id, started_at, finished_at, status, version, organization_id, accounts, scopes, "
                "calls, gaps) VALUES (?, strftime('%Y-%m-%d %H:%M:%S', '2025-11-22 03:00', ?) || '.000000', "
                "strftime('%Y-%m-%d %H:%M:%S', '2025-11-22 04:00', ?) || '.000000', 'complete', '0', 'o-exampleorg1', 0, "
                "0, 0, 0)",
                (night, f"+{night} days", f"+{night} days"),
            )
            database.execute(
                "INSERT INTO scope_run (run_id, account_id, region, outcome, calls, retries, gaps) "
                f"SELECT {night}, {ACCOUNT.format(i='(n * 250)')}, {REGION.format(i='(n * 250)')}, 'complete', 0, 0, 0 "
                f"FROM number WHERE n < {self.keys // SCOPE} UNION ALL "
                f"SELECT {night}, {ACCOUNT.format(i='(n * 1000)')}, 'global', 'complete', 0, 0, 0 "
                f"FROM number WHERE n < {max(self.keys // 1000, 1)}"
            )

    def _documents(self, database: sqlite3.Connection, nights: range) -> None:
        policies = self.keys // SHARED

        def rows() -> Iterator[tuple[bytes, str, str]]:
            for night in nights:
                step = 1 if night == 1 else EVERY
                for policy in range(0 if night == 1 else _residue(night, 37), policies, step):
                    received = _policy(111_000_000_000 + policy * SHARED // 1000 * 7919, policy, _version(night))
                    digest = b"%08x%08x" % (policy, _version(night))
                    yield digest, canonical_policy(received), received

        database.executemany("INSERT INTO policy_document (policy_hash, canonical, received) VALUES (?, ?, ?)", rows())

    def _insert(self, database: sqlite3.Connection, table: YearTable, night: int) -> int:
        version = _version(night)
        columns = {name: text.format(i="r.i", c="r.c", v=version) for name, text in table.columns.items()}
        if table.salt is None:
            ends = "NULL"
        elif night == 1:
            # The first change is due when the residue's turn comes.
            ends = f"2 + r.b * {_inverse(table.salt)} % {EVERY}"
        else:
            ends = str(night + EVERY)
        names = ", ".join(f'"{name}"' for name in columns)
        if table.salt is not None:
            ends = f"CASE WHEN {ends} <= {self.nights} THEN {ends} END"
        statement = (
            f'INSERT INTO "{table.name}" ({names}, valid_from, valid_to, content) '
            f"SELECT {', '.join(columns.values())}, {night}, {ends}, x'00000000000000000000000000000000' "
            f"FROM {self._rows(table, night)} AS r"
        )
        return database.execute(statement).rowcount

    def _end(self, database: sqlite3.Connection, table: YearTable) -> int:
        before = _version(self.nights - EVERY) if self.nights > EVERY + 1 else 0
        columns = [table.columns[name].format(i="r.i", c="r.c", v=before) for name in table.natural_key]
        same = " AND ".join(f'"{table.name}"."{name}" = o."{name}"' for name in table.natural_key)
        listed = ", ".join(f'{text} AS "{name}"' for text, name in zip(columns, table.natural_key, strict=True))
        database.execute(f"CREATE TEMP TABLE ending AS SELECT {listed} FROM {self._rows(table, self.nights)} AS r")
        found = database.execute(
            f'UPDATE "{table.name}" SET valid_to = {self.nights} WHERE version_id IN (SELECT "{table.name}".version_id '
            f'FROM ending o CROSS JOIN "{table.name}" ON {same} AND "{table.name}".valid_to IS NULL)'
        ).rowcount
        database.execute("DROP TABLE ending")
        return found

    def _rows(self, table: YearTable, night: int) -> str:
        """A subquery with ``i``, ``c`` and ``b`` (the block that changes together) of the rows of a night."""
        every = "" if night == 1 else f" * {EVERY} + {_residue(night, table.salt or 0)}"
        count = self.keys * table.rows // (1 if night == 1 else EVERY)
        if table.block > 1:
            block = f"(n / {table.block}{every})"
            key = f"{block} * {table.block} + n % {table.block}"
            return f"(SELECT {key} AS i, 0 AS c, {block} AS b FROM number WHERE n < {count})"
        if table.rows > 1:
            part = self.keys // (1 if night == 1 else EVERY)
            number = f"((n + k * {part}){every})"
            return (
                f"(SELECT {number} / {table.rows} AS i, {number} % {table.rows} AS c, {number} AS b "
                f"FROM (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2), number WHERE n < {part})"
            )
        return f"(SELECT (n{every}) AS i, 0 AS c, (n{every}) AS b FROM number WHERE n < {count})"


def _version(night: int) -> int:
    """Which version of a row begins in a night in which it changes."""
    return 0 if night == 1 else (night - 2) // EVERY + 1


def _residue(night: int, salt: int) -> int:
    """The rows that change in a night: those whose number leaves this rest."""
    return (night - 2) * salt % EVERY


def _inverse(salt: int) -> int:
    return pow(salt, -1, EVERY)


def _policy(account: int, number: int, version: int) -> str:
    roles = [f"arn:aws:iam::{account}:role/app-{number}-{one}-{version}" for one in range(3)]
    use = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:ReEncrypt*"]
    statements = [
        {"Sid": "Root", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*"},
        {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": roles}, "Action": use},
    ]
    if number % 5 == 0:
        outsider = f"{999_000_000_000 + number}"
        statements.append({"Sid": "Vendor", "Effect": "Allow", "Principal": {"AWS": outsider}, "Action": "kms:Decrypt"})
    return json.dumps({"Version": "2012-10-17", "Statement": [one | {"Resource": "*"} for one in statements]})


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    # Closed at once: the mart reads by another copy of SQLite, and two in one process do not see each other's locks.
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA temp_store=MEMORY")
        database.execute("PRAGMA cache_size=-500000")
        yield database
