"""Access analysis of a large organization: the first analysis, and the one after a policy changed.

1,000,000 keys in 500 accounts with 20,000 distinct policies, and 3,000,000 grants of services and users.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from benchmarks.metrics import Figure, machine, table
from models.hashing import content_hash
from models.settings import Settings
from models.store.engine import connect, upgrade
from models.store.policy_canonical import canonical_policy
from models.store.scd2_merge import Batch, merge
from models.tables import Account
from models.tables.keys import Key, KeyGrant, KeyMetadata, KeyPolicy, PolicyDocument
from models.tables.runs import Run, RunStatus
from models.versioned import Base
from reports.access.analysis.stage import analyze_access
from tests.reports.ledger_builder import FIRST_RUN

ACCOUNTS = 500
KEYS_PER_POLICY = 50
"""Keys with the same policy."""
CHUNK = 50_000
_USE = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:DescribeKey", "kms:ReEncrypt*"]


def measure(*, quick: bool = False, keys: int = 1_000_000) -> list[Figure]:
    """Fill a ledger, analyze it, change one policy, and analyze the change."""
    if quick:
        keys = min(keys, 10_000)
    with tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        engine = connect(url)
        upgrade(engine)
        started = time.monotonic()
        with engine.begin() as connection:
            _fill(connection, keys)
        engine.dispose()
        print(f"ledger of {keys:,} keys written in {time.monotonic() - started:.0f} s", flush=True)
        settings = Settings.model_validate({"database": url})
        first = analyze_access(settings)
        print(f"first analysis: {first}", flush=True)
        changed = Batch()
        received = _policy(_account(0), 1)
        changed.add(KeyPolicy, key_arn=_arn(0), policy_hash=changed.document(received.replace("app-1-", "new-")))
        with engine.begin() as connection:
            connection.execute(insert(Run).values(_run(2)))
            merge(connection, 2, changed)
        engine.dispose()
        second = analyze_access(settings)
        print(f"second analysis: {second}", flush=True)
    full = keys >= 1_000_000
    return [
        Figure("access: keys", keys),
        Figure("access: distinct policies and grants", first.policies, f"and {first.grants:,}"),
        Figure("access: grants", 3 * keys),
        Figure("access: full analysis", first.seconds, "s", budget=60 if full else None),
        Figure("access: analysis after one policy changed", second.seconds, "s", budget=2),
        Figure("access: policies analyzed after the change", second.policies, budget=1),
    ]


def _fill(connection: Connection, keys: int) -> None:
    connection.execute(insert(Run).values(_run(1)))
    connection.execute(
        insert(Account.table()),
        [
            {
                "account_id": _account(n),
                "is_management": n == 0,
                "selection": "crawled",
                "state": "ACTIVE",
                **_VERSION,
            }
            for n in range(ACCOUNTS)
        ],
    )
    documents = [_document(number) for number in range(-(-keys // KEYS_PER_POLICY))]
    _write(connection, PolicyDocument, iter(documents))
    hashes = [row["policy_hash"] for row in documents]
    numbers = range(keys)
    _write(
        connection,
        Key,
        ({"key_arn": _arn(n), "key_id": str(n), "account_id": _of(n), "region": "eu-west-1"} for n in numbers),
    )
    _write(connection, KeyMetadata, ({"key_arn": _arn(n), **_METADATA} for n in numbers))
    _write(connection, KeyPolicy, ({"key_arn": _arn(n), "policy_hash": hashes[n // KEYS_PER_POLICY]} for n in numbers))
    _write(connection, KeyGrant, (grant for n in numbers for grant in _grants(n)))


_VERSION: dict[str, Any] = {"valid_from": 1, "valid_to": None, "content_hash": b"0" * 16}
_METADATA = {
    "manager": "CUSTOMER",
    "state": "Enabled",
    "key_usage": "ENCRYPT_DECRYPT",
    "key_spec": "SYMMETRIC_DEFAULT",
    "origin": "AWS_KMS",
}


def _write(connection: Connection, mapped: type[Base], rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows in bulk, without SQLAlchemy."""
    target = Base.metadata.tables[mapped.__tablename__]
    versioned = "valid_from" in target.columns
    names: list[str] = []
    chunk: list[tuple[Any, ...]] = []

    def flush() -> None:
        if chunk:
            marks = ", ".join("?" * len(names))
            connection.exec_driver_sql(f'INSERT INTO "{target.name}" ({", ".join(names)}) VALUES ({marks})', chunk)
            chunk.clear()

    for row in rows:
        values = row | _VERSION if versioned else row
        names = names or list(values)
        chunk.append(tuple(values.values()))
        if len(chunk) == CHUNK:
            flush()
    flush()


def _run(run_id: int) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "started_at": FIRST_RUN,
        "status": RunStatus.COMPLETE,
        "version": "0",
        "organization_id": "o-exampleorg1",
    }


def _account(number: int) -> str:
    return f"{111_000_000_000 + number * 7919}"


def _of(key: int) -> str:
    return _account(key // KEYS_PER_POLICY % ACCOUNTS)


def _arn(key: int) -> str:
    return f"arn:aws:kms:eu-west-1:{_of(key)}:key/{key:08x}-0000-4000-8000-{key * 2654435761 % 2**48:012x}"


def _document(number: int) -> dict[str, Any]:
    received = _policy(_account(number % ACCOUNTS), number)
    canonical = canonical_policy(received)
    return {"policy_hash": content_hash(canonical), "canonical": canonical, "received": received}


def _policy(account: str, number: int) -> str:
    """A policy with the root and some roles; some also have an external account, a condition on everyone, or a Deny."""
    roles = [f"arn:aws:iam::{account}:role/app-{number}-{n}" for n in range(3)]
    statements: list[dict[str, Any]] = [
        {"Sid": "Root", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*"},
        {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": roles}, "Action": _USE},
        {
            "Sid": "Grants",
            "Effect": "Allow",
            "Principal": {"AWS": roles},
            "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
            "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
        },
    ]
    if number % 5 == 0:
        foreign = f"{999_000_000_000 + number}"
        statements.append({"Sid": "Vendor", "Effect": "Allow", "Principal": {"AWS": foreign}, "Action": "kms:Decrypt"})
    if number % 4 == 0:
        organization = {"StringEquals": {"aws:PrincipalOrgID": "o-exampleorg1"}}
        statements.append(
            {"Sid": "Organization", "Effect": "Allow", "Principal": "*", "Action": _USE, "Condition": organization}
        )
    if number % 10 == 0:
        outside = {
            "StringNotEquals": {"aws:PrincipalOrgID": "o-exampleorg1"},
            "Bool": {"aws:PrincipalIsAWSService": "false"},
        }
        statements.append({"Sid": "No", "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Condition": outside})
    return json.dumps({"Version": "2012-10-17", "Statement": [n | {"Resource": "*"} for n in statements]})


def _grants(key: int) -> Iterator[dict[str, Any]]:
    account, arn = _of(key), _arn(key)
    kinds = (
        (
            f"arn:aws:sts::{account}:assumed-role/aws:ec2-infrastructure/i-{key:017x}",
            "ec2.eu-west-1.amazonaws.com",
            f'{{"EncryptionContextSubset":{{"aws:ebs:id":"vol-{key:017x}"}}}}',
        ),
        (
            f"arn:aws:iam::{account}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling",
            None,
            None,
        ),
        (
            f"arn:aws:iam::{account}:role/service-{key % 40}",
            None,
            f'{{"EncryptionContextEquals":{{"tenant":"{key}"}}}}',
        ),
    )
    for number, (grantee, retiring, constraints) in enumerate(kinds):
        yield {
            "key_arn": arn,
            "grant_id": f"{key:032x}{number:032x}",
            "grantee_principal": grantee,
            "retiring_principal": retiring,
            "issuing_account": f"arn:aws:iam::{account}:root",
            "operations": '["CreateGrant","Decrypt","DescribeKey","GenerateDataKeyWithoutPlaintext"]',
            "constraints": constraints,
        }


def main() -> None:
    """Run with other sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.access")
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"\n{machine()}\n\n{table(measure(keys=options.keys))}")


if __name__ == "__main__":
    main()
