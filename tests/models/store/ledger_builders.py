"""Builders of facts and batches, and readers of the history, for the tests of the merge."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Engine, select

from models.store.scd2_merge import Batch, Merged, merge, open_rows
from models.tables import (
    Key,
    KeyGrant,
    KeyMetadata,
    KeyPolicy,
    KeyReference,
    KeyRotation,
    KeyRotationEvent,
    Resource,
    ResourceKey,
    Tag,
)
from models.versioned import VersionedTable

ACCOUNT, REGION = "000123456789", "eu-west-1"
BEGINNING = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

OF_KEY: dict[type[VersionedTable], dict[str, Any]] = {
    KeyMetadata: {},
    KeyPolicy: {},
    KeyGrant: {"grant_id": "g1"},
    KeyRotation: {},
    KeyRotationEvent: {"rotated_at": BEGINNING},
}
OF_RESOURCE: dict[type[VersionedTable], dict[str, Any]] = {
    KeyReference: {"role": "storage", "position": 0},
    ResourceKey: {"role": "storage", "position": 0},
}
DESCRIBES_KEY: tuple[type[VersionedTable], ...] = (*OF_KEY, Tag)
DESCRIBES_RESOURCE: tuple[type[VersionedTable], ...] = (*OF_RESOURCE, Tag)
WITH_KEY: tuple[type[VersionedTable], ...] = (Key, *DESCRIBES_KEY)
WITH_RESOURCE: tuple[type[VersionedTable], ...] = (Resource, *DESCRIBES_RESOURCE)

# What a fact must have where it does not matter.
_NEEDED: dict[str, Any] = {
    "format": "key_arn",
    "operations": "[]",
    "status": "enabled",
    "key_class": "customer",
    "selection": "crawled",
    "is_management": False,
    "severity": "high",
    "reason": "because",
    "action": "kms:ListKeys",
    "cause": "denied",
    "code": "AccessDenied",
    "message": "no",
    "policy_hash": b"1" * 16,
}


def row(model: type[VersionedTable], **values: Any) -> dict[str, Any]:
    """A complete fact; missing values are NULL, or a valid value for columns that are not nullable."""
    columns = model.table().c
    needed = {name: _NEEDED.get(name, "x") for name in model.value_columns() if not columns[name].nullable}
    return dict.fromkeys(model.value_columns()) | needed | values


def key(number: int | str = 1, account_id: str = ACCOUNT, region: str = REGION) -> dict[str, Any]:
    """A key as returned by kms:ListKeys."""
    arn = f"arn:aws:kms:{region}:{account_id}:key/{number}"
    return {"key_arn": arn, "key_id": str(number), "account_id": account_id, "region": region}


def resource(number: int | str = 1, account_id: str = ACCOUNT, region: str = REGION, **values: Any) -> dict[str, Any]:
    """A database instance as returned by the listing of its region."""
    fact = {
        "resource_arn": f"arn:aws:rds:{region}:{account_id}:db:{number}",
        "resource_type": "AWS::RDS::DBInstance",
        "account_id": account_id,
        "region": region,
        "listing_region": region,
        "name": str(number),
    }
    return row(Resource, **(fact | values))


def metadata(key_arn: str, **values: Any) -> dict[str, Any]:
    """The metadata of a key as returned by kms:DescribeKey."""
    return row(KeyMetadata, key_arn=key_arn, **values)


def batch(*facts: tuple[type[VersionedTable], dict[str, Any]], complete: tuple[tuple[Any, ...], ...] = ()) -> Batch:
    """A batch with facts and complete listings, given as tuples of the table and its listing key."""
    result = Batch()
    for model, values in facts:
        result.add(model, **values)
    for model, *listing_key in complete:
        result.mark_complete(model, *listing_key)
    return result


def merge_batch(engine: Engine, run_id: int, batch: Batch) -> Merged:
    """Merge a batch in a transaction of its own."""
    with engine.begin() as connection:
        return merge(connection, run_id, batch)


def known(engine: Engine, model: type[VersionedTable], run_id: int | None = None) -> list[dict[str, Any]]:
    """The facts as of a run, or the current ones, sorted by natural key and without bookkeeping columns."""
    with engine.connect() as connection:
        rows = connection.execute(open_rows(model, run_id)).mappings().all()
    facts = [{name: values[name] for name in model.value_columns()} for values in rows]
    return sorted(facts, key=lambda fact: tuple(str(fact[name]) for name in model.natural_key))


def intervals(engine: Engine, model: type[VersionedTable], value: str) -> list[tuple[Any, int, int | None]]:
    """The value of one column, valid_from and valid_to of each version."""
    target = model.table()
    query = select(target.c[value], target.c.valid_from, target.c.valid_to).order_by(
        target.c.valid_from, target.c.version_id
    )
    with engine.connect() as connection:
        return [(version[0], version[1], version[2]) for version in connection.execute(query)]


def scope(*keys: dict[str, Any], complete: bool = True) -> Batch:
    """The listing of the keys of one account and region."""
    return batch(*((Key, fact) for fact in keys), complete=((Key, ACCOUNT, REGION),) if complete else ())


def key_with_everything(number: int | str = 1) -> list[tuple[type[VersionedTable], dict[str, Any]]]:
    """A key with one fact of each child table."""
    fact = key(number)
    children = [(model, row(model, key_arn=fact["key_arn"], **values)) for model, values in OF_KEY.items()]
    return [(Key, fact), *children, (Tag, row(Tag, resource_arn=fact["key_arn"], tag_key="Owner"))]


def database_with_everything(number: int | str = 1) -> list[tuple[type[VersionedTable], dict[str, Any]]]:
    """A database instance with one fact of each child table."""
    fact = resource(number)
    children = [(model, row(model, resource_arn=fact["resource_arn"], **own)) for model, own in OF_RESOURCE.items()]
    return [(Resource, fact), *children, (Tag, row(Tag, resource_arn=fact["resource_arn"], tag_key="Owner"))]
