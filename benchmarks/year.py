"""A ledger of one year for the benchmark of the mart, written by SQL: in every night 1 % of the rows that can change do.

A row's number decides in which nights it changes: those that are its residue apart. So a table is written night by night,
each version with its end, and no row is ever updated.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.database import connect, upgrade
from models.policies import canonical_policy
from models.tables import facets

EVERY = 100
"""One in so many rows changes in a night."""
SCOPE = 250
"""Keys of one account in one region."""
SHARED = 50
"""Keys with the same policy text."""

_REGION = "CASE {i} / 250 % 4 WHEN 0 THEN 'eu-west-1' WHEN 1 THEN 'us-east-1' WHEN 2 THEN 'eu-central-1' ELSE 'ap-south-1' END"
_ACCOUNT = "(111000000000 + {i} / 1000 * 7919)"
_KEY_ID = "printf('%08x-0000-4000-8000-%012x', {i}, {i} * 40503 % 281474976710656)"
_KEY = f"printf('arn:aws:kms:%s:%d:key/%08x-0000-4000-8000-%012x', {_REGION}, {_ACCOUNT}, {{i}}, {{i}} * 40503 % 281474976710656)"
_KINDS = (
    "CASE {i} % 4 WHEN 0 THEN 'AWS::SecretsManager::Secret' WHEN 1 THEN 'AWS::RDS::DBInstance' "
    "WHEN 2 THEN 'AWS::S3::Bucket' ELSE 'AWS::EC2::Volume' END"
)
_RESOURCE = (
    "CASE {i} % 4 WHEN 2 THEN printf('arn:aws:s3:::data-%08d', {i}) ELSE printf('arn:aws:%s:%s:%d:%s-%08d', "
    "CASE {i} % 4 WHEN 0 THEN 'secretsmanager' WHEN 1 THEN 'rds' ELSE 'ec2' END, "
    f"{_REGION}, {_ACCOUNT}, "
    "CASE {i} % 4 WHEN 0 THEN 'secret:service/data' WHEN 1 THEN 'db:data' ELSE 'volume/vol' END, {i}) END"
)
_LISTED = f"CASE {{i}} % 4 WHEN 2 THEN 'global' ELSE {_REGION} END"
_TIME = "strftime('%Y-%m-%d %H:%M:%S', '2022-01-01', {shift}) || '.000000'"
_OPERATIONS = '\'["CreateGrant","Decrypt","DescribeKey","GenerateDataKeyWithoutPlaintext"]\''
_GRANTEE = (
    "CASE {c} WHEN 0 THEN printf('arn:aws:sts::%d:assumed-role/aws:ec2-infrastructure/i-%017x', {account}, {i}) "
    "WHEN 1 THEN printf('arn:aws:iam::%d:role/aws-service-role/autoscaling.amazonaws.com/"
    "AWSServiceRoleForAutoScaling', {account}) "
    "ELSE printf('arn:aws:iam::%d:role/service-%d', {account}, {i} % 40) END"
)
_CONSTRAINTS = (
    'CASE {c} WHEN 0 THEN printf(\'{{"EncryptionContextSubset":{{"aws:ebs:id":"vol-%017x"}}}}\', {i}) '
    'WHEN 2 THEN printf(\'{{"EncryptionContextEquals":{{"tenant":"%d"}}}}\', {i}) END'
)


@dataclass(frozen=True, slots=True)
class _Table:
    """``columns`` are expressions over ``{i}`` (the key's or resource's number), ``{c}`` (which of its rows) and ``{v}``."""

    name: str
    columns: dict[str, str]
    salt: int | None
    """Spreads the changes over the nights; ``None`` for rows that never change."""
    rows: int = 1
    """Rows of a key."""
    block: int = 1
    """Rows that change together."""

    @property
    def natural(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return facets()[self.name].natural


_TABLES = (
    _Table("key", {"key_arn": _KEY, "key_id": _KEY_ID, "account_id": _ACCOUNT, "region": _REGION}, None),
    _Table(
        "key_metadata",
        {
            "key_arn": _KEY,
            "manager": "'CUSTOMER'",
            "state": "CASE WHEN ({i} / 100 + {v}) % 10 = 0 THEN 'Disabled' ELSE 'Enabled' END",
            "enabled": "({i} / 100 + {v}) % 10 <> 0",
            "description": "printf('Data of service %d, revision %d', {i} % 977, {v})",
            "key_usage": "'ENCRYPT_DECRYPT'",
            "key_spec": "'SYMMETRIC_DEFAULT'",
            "origin": "'AWS_KMS'",
            "created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
            "multi_region": "0",
            "algorithms": '\'{{"encryption":["SYMMETRIC_DEFAULT"]}}\'',
        },
        31,
    ),
    _Table(
        "key_policy",
        {"key_arn": _KEY, "policy_hash": "CAST(printf('%08x%08x', {i} / 50, {v}) AS BLOB)"},
        37,
        block=SHARED,
    ),
    _Table(
        "key_rotation",
        {
            "key_arn": _KEY,
            "status": "CASE WHEN {i} % 7 = 0 THEN 'off' ELSE 'on' END",
            "period_days": "365 - {v}",
            "next_rotation_at": _TIME.format(shift="'+' || (1500 + {v}) || ' days'"),
        },
        41,
    ),
    _Table(
        "key_rotation_event",
        {
            "key_arn": _KEY,
            "rotated_at": _TIME.format(shift="'+' || ({i} % 365) || ' days'"),
            "rotation_type": "'AUTOMATIC'",
        },
        None,
    ),
    _Table(
        "key_last_use",
        {
            "key_arn": _KEY,
            "operation": "'Decrypt'",
            "used_at": _TIME.format(shift="'+' || (1000 + {v}) || ' days'"),
            "tracking_started_at": "'2022-06-01 00:00:00.000000'",
            "key_created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
        },
        43,
    ),
    _Table(
        "alias",
        {
            "alias_arn": f"printf('arn:aws:kms:%s:%d:alias/data-%08d', {_REGION}, {_ACCOUNT}, {{i}})",
            "alias_name": "printf('alias/data-%08d', {i})",
            "account_id": _ACCOUNT,
            "region": _REGION,
            "target_key_id": _KEY_ID,
            "target_key_arn": _KEY,
            "created_at": "'2023-01-01 00:00:00.000000'",
            "updated_at": _TIME.format(shift="'+' || (1000 + {v}) || ' days'"),
        },
        47,
    ),
    _Table(
        "tag",
        {
            "resource_arn": _KEY,
            "tag_key": "'owner'",
            "tag_value": "printf('team-%d-%d', {i} % 311, {v})",
        },
        53,
    ),
    _Table(
        "key_grant",
        {
            "key_arn": _KEY,
            "grant_id": "printf('%032x%016x%016x', {i}, {c}, {v})",
            "grantee_principal": _GRANTEE.format(c="{c}", account=_ACCOUNT, i="{i}"),
            "retiring_principal": "CASE {c} WHEN 0 THEN 'ec2.eu-west-1.amazonaws.com' END",
            "issuing_account": f"printf('arn:aws:iam::%d:root', {_ACCOUNT})",
            "operations": _OPERATIONS,
            "constraints": _CONSTRAINTS,
            "created_at": _TIME.format(shift="'+' || (1000 + {v}) || ' days'"),
        },
        61,
        rows=3,
    ),
    _Table(
        "resource",
        {
            "resource_arn": _RESOURCE,
            "resource_type": _KINDS,
            "account_id": _ACCOUNT,
            "region": _REGION,
            "listed_in": _LISTED,
            "name": "printf('data-%08d', {i})",
            "status": "CASE {v} % 2 WHEN 0 THEN 'available' ELSE 'modifying' END",
            "encryption": "'aws:kms'",
            "created_at": _TIME.format(shift="'-' || ({i}) || ' minutes'"),
            "details": 'printf(\'{{"Engine":"postgres","Revision":%d}}\', {v})',
        },
        67,
    ),
    _Table(
        "key_reference",
        {
            "resource_arn": _RESOURCE,
            "role": "'storage'",
            "position": "0",
            "form": "'key_arn'",
            "raw": _KEY.replace("{i}", "({i} + {v} % 2)"),
            "target_arn": _KEY.replace("{i}", "({i} + {v} % 2)"),
        },
        71,
    ),
    _Table(
        "key_usage",
        {
            "resource_arn": _RESOURCE,
            "role": "'storage'",
            "position": "0",
            "key_arn": _KEY.replace("{i}", "({i} + {v} % 2)"),
            "key_class": "'customer'",
        },
        71,
    ),
)


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
            for table in _TABLES:
                self._insert(database, table, 1)
                if table.salt is not None:
                    for night in range(2, self.nights + 1):
                        self._insert(database, table, night)
            database.execute(
                f"INSERT INTO key_last_use_asked (key_arn, account_id, region, asked_at, run_id) "
                f"SELECT {_KEY.format(i='n')}, {_ACCOUNT.format(i='n')}, {_REGION.format(i='n')}, "
                f"'2026-01-01 00:00:00.000000', {self.nights} FROM number WHERE n < {self.keys}"
            )
            for _, text in indexes:
                database.execute(text)
            database.commit()
        with _open(self.path) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("ANALYZE")
            database.commit()

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
            for table in _TABLES:
                if table.salt is not None:
                    written += self._end(database, table) + self._insert(database, table, self.nights)
            written += database.execute(
                f"UPDATE key_last_use_asked SET asked_at = '2026-06-01 00:00:00.000000', run_id = {self.nights} "
                f"WHERE key_arn IN (SELECT {_KEY.format(i='n')} FROM number WHERE n < {self.keys} AND n % 100 = 7)"
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
            account = _ACCOUNT.format(i="(n * 1000)")
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
                f"SELECT {night}, {_ACCOUNT.format(i='(n * 250)')}, {_REGION.format(i='(n * 250)')}, 'complete', 0, 0, 0 "
                f"FROM number WHERE n < {self.keys // SCOPE} UNION ALL "
                f"SELECT {night}, {_ACCOUNT.format(i='(n * 1000)')}, 'global', 'complete', 0, 0, 0 "
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

    def _insert(self, database: sqlite3.Connection, table: _Table, night: int) -> int:
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

    def _end(self, database: sqlite3.Connection, table: _Table) -> int:
        before = _version(self.nights - EVERY) if self.nights > EVERY + 1 else 0
        columns = [table.columns[name].format(i="r.i", c="r.c", v=before) for name in table.natural]
        same = " AND ".join(f'"{table.name}"."{name}" = o."{name}"' for name in table.natural)
        listed = ", ".join(f'{text} AS "{name}"' for text, name in zip(columns, table.natural, strict=True))
        database.execute(f"CREATE TEMP TABLE ending AS SELECT {listed} FROM {self._rows(table, self.nights)} AS r")
        found = database.execute(
            f'UPDATE "{table.name}" SET valid_to = {self.nights} WHERE version_id IN (SELECT "{table.name}".version_id '
            f'FROM ending o CROSS JOIN "{table.name}" ON {same} AND "{table.name}".valid_to IS NULL)'
        ).rowcount
        database.execute("DROP TABLE ending")
        return found

    def _rows(self, table: _Table, night: int) -> str:
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


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous=OFF")
    database.execute("PRAGMA temp_store=MEMORY")
    database.execute("PRAGMA cache_size=-500000")
    return database
