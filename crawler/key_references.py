"""From what a resource says of its key to the key: reading a value, and resolving it against what is known.

A bare id or alias means a key of the referring account and region. Nothing is asked of AWS here, and DescribeKey is never
used to resolve an alias: that could create the AWS managed key.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, and_, exists, func, literal, select, update

from crawler.spec import GLOBAL, DefaultKey, Scope
from models.store import crawl_lock
from models.store.scd2_merge import Batch, merge
from models.tables.keys import Alias, Key, KeyMetadata
from models.tables.resources import Form, KeyClass, KeyReference, ResourceKey
from models.tables.runs import Gap, Outcome, ScopeCoverage

_KEY_ARN = re.compile(r"arn:([a-z-]+):kms:([a-z0-9-]+):([0-9]{12}):key/([A-Za-z0-9-]+)")
_ALIAS_ARN = re.compile(r"arn:([a-z-]+):kms:([a-z0-9-]+):([0-9]{12}):(alias/[A-Za-z0-9/_-]+)")
_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]+")
_KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")

SENTINELS = {
    "auto": KeyClass.AWS_OWNED,
    "AWS_OWNED_KMS_KEY": KeyClass.AWS_OWNED,
    "AWS_OWNED_KEY": KeyClass.AWS_OWNED,
    "DefaultKey": KeyClass.AWS_OWNED,
    "DEFAULT": KeyClass.AWS_OWNED,
    "S3_MANAGED_KEY": KeyClass.AWS_OWNED,
}
"""Values that services return in place of a key."""

CHUNK = 20_000
"""References resolved and written at a time."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A key as a resource names it, read: its form, and the ARN of the key or alias that it means."""

    form: Form
    raw: str | None = None
    target_arn: str | None = None
    target_account: str | None = None
    target_region: str | None = None
    declared_class: KeyClass | None = None
    reason: str | None = None


def read(raw: Any, scope: Scope) -> Reference:
    """Read a value that is there."""
    if not isinstance(raw, str):
        return Reference(Form.MALFORMED, str(raw), declared_class=KeyClass.UNKNOWN, reason="not a text")
    for pattern, form in ((_KEY_ARN, Form.KEY_ARN), (_ALIAS_ARN, Form.ALIAS_ARN)):
        found = pattern.fullmatch(raw)
        if found:
            return Reference(form, raw, raw, found[3], found[2])
    if raw in SENTINELS:
        return Reference(Form.SENTINEL, raw, declared_class=SENTINELS[raw], reason=f"the service says {raw}")
    if _ALIAS.fullmatch(raw):
        return _of_scope(Form.ALIAS_NAME, raw, raw, scope)
    if _KEY_ID.fullmatch(raw):
        return _of_scope(Form.KEY_ID, raw, f"key/{raw}", scope)
    return Reference(
        Form.MALFORMED,
        raw,
        declared_class=KeyClass.UNKNOWN,
        reason="neither a key id, a key ARN, an alias name nor an alias ARN",
    )


def read_default(default: DefaultKey, scope: Scope) -> Reference | None:
    """The reference of a resource that names no key; ``None`` when it uses none at all."""
    if default is None:
        return None
    if isinstance(default, KeyClass):
        return Reference(Form.OMITTED, declared_class=default)
    return _of_scope(Form.OMITTED, None, default, scope)


def _of_scope(form: Form, raw: str | None, resource: str, scope: Scope) -> Reference:
    arn = f"arn:{scope.partition}:kms:{scope.region}:{scope.account_id}:{resource}"
    return Reference(form, raw, arn, scope.account_id, scope.region)


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of the key or alias that a reference names."""

    alias_arn: str | None
    alias_target: str | None
    key_arn: str | None
    key_manager: str | None
    is_aws_alias: bool
    scope_outcome: str | None
    keys_gap: bool
    aliases_gap: bool


def resolve(reference: Reference, known: Known) -> tuple[str | None, KeyClass, str | None]:
    """Key ARN, class and reason. Without a complete listing nothing is called gone."""
    if reference.declared_class is not None:
        return None, reference.declared_class, reference.reason
    target = reference.target_arn or ""
    through_alias = ":alias/" in target
    aws_alias = through_alias and ":alias/aws/" in target
    wanted = known.alias_target if through_alias else target
    if known.key_arn:
        return known.key_arn, *_class_of(known)
    crawled = known.scope_outcome in {Outcome.COMPLETE, Outcome.PARTIAL}
    where = f"account {reference.target_account}, region {reference.target_region}"
    if aws_alias:
        reason = None if wanted else f"the AWS managed key {target.rpartition(':')[2]} is not in the inventory"
        return wanted, KeyClass.AWS_MANAGED, reason
    if not crawled:
        return (wanted or None), KeyClass.NOT_CRAWLED, f"{where} was not crawled"
    if through_alias and known.aliases_gap:
        # Even an alias that is known may point elsewhere by now.
        return wanted, KeyClass.UNKNOWN, f"the aliases of {where} could not be listed"
    if through_alias and known.alias_arn is None:
        return None, KeyClass.DANGLING, f"there is no {target.rpartition(':')[2]} in {where}"
    if not wanted:
        return None, KeyClass.DANGLING, f"{target.rpartition(':')[2]} points to no key"
    if known.keys_gap:
        return wanted, KeyClass.UNKNOWN, f"the keys of {where} could not be listed"
    return wanted, KeyClass.DANGLING, f"the key no longer exists in {where}"


def _class_of(known: Known) -> tuple[KeyClass, str | None]:
    if known.key_manager == "CUSTOMER":
        return KeyClass.CUSTOMER, None
    if known.key_manager == "AWS" or known.is_aws_alias:
        return KeyClass.AWS_MANAGED, None
    return KeyClass.UNKNOWN, "the key exists, but it could not be described"


def link(engine: Engine, run_id: int) -> None:
    """Resolve every reference that is known, against every key and alias that is known, and keep the result's history.

    Run once after the scopes of a run are saved: an alias may move, and a key vanish, in another scope than the resource's.
    References are read on one connection and written on another, some thousands at a time; what a killed run leaves out is
    done when it is resumed.
    """
    with engine.connect() as reading:
        waiting = _references(reading, run_id)
        while batch := _resolved(itertools.islice(waiting, CHUNK)):
            with engine.begin() as writing:
                merge(writing, run_id, batch)
                crawl_lock.heartbeat(writing, run_id)
    with engine.begin() as writing:
        _close_unreferenced(writing, run_id)


def _resolved(references: Iterable[tuple[Mapping[str, Any], Known]]) -> Batch | None:
    """The use of keys of some references; ``None`` when there is none left."""
    batch = Batch()
    for row, known in references:
        key_arn, key_class, reason = resolve(
            Reference(
                Form(row["format"]),
                row["raw_value"],
                row["target_arn"],
                row["target_account"],
                row["target_region"],
                KeyClass(row["declared_class"]) if row["declared_class"] else None,
                row["reason"],
            ),
            known,
        )
        batch.add(
            ResourceKey,
            resource_arn=row["resource_arn"],
            role=row["role"],
            position=row["position"],
            key_arn=key_arn,
            key_class=str(key_class),
            reason=reason,
        )
    return batch if batch.rows else None


def _references(connection: Connection, run_id: int) -> Iterator[tuple[Mapping[str, Any], Known]]:
    reference, alias, key, metadata = (model.table() for model in (KeyReference, Alias, Key, KeyMetadata))
    aws_alias = alias.alias("aws_alias")
    managed = exists(
        select(literal(1)).where(
            # An alias is where its key is; that is what the index is about.
            aws_alias.c.account_id == key.c.account_id,
            aws_alias.c.region == key.c.region,
            aws_alias.c.target_key_arn == key.c.key_arn,
            aws_alias.c.valid_to.is_(None),
            aws_alias.c.alias_name.like("alias/aws/%"),
        )
    )
    to_alias = and_(alias.c.alias_arn == reference.c.target_arn, alias.c.valid_to.is_(None))
    named = func.coalesce(alias.c.target_key_arn, reference.c.target_arn)
    to_key = and_(key.c.key_arn == named, key.c.valid_to.is_(None))
    to_metadata = and_(metadata.c.key_arn == key.c.key_arn, metadata.c.valid_to.is_(None))
    query = (
        select(
            reference,
            alias.c.alias_arn.label("known_alias"),
            alias.c.target_key_arn.label("alias_target"),
            key.c.key_arn.label("known_key"),
            metadata.c.manager.label("known_manager"),
            managed.label("managed"),
        )
        .select_from(reference.outerjoin(alias, to_alias).outerjoin(key, to_key).outerjoin(metadata, to_metadata))
        .where(reference.c.valid_to.is_(None))
    )
    outcomes = _outcomes(connection, run_id)
    gaps = _listing_gaps(connection)
    for row in connection.execution_options(yield_per=5000).execute(query).mappings():
        where = (row["target_account"], row["target_region"])
        yield (
            dict(row),
            Known(
                row["known_alias"],
                row["alias_target"],
                row["known_key"],
                row["known_manager"],
                bool(row["managed"]),
                outcomes.get(where),
                (*where, "ListKeys") in gaps,
                (*where, "ListAliases") in gaps,
            ),
        )


def _outcomes(connection: Connection, run_id: int) -> dict[tuple[str, str], str]:
    table = ScopeCoverage.__table__
    rows = connection.execute(
        select(table.c.account_id, table.c.region, table.c.outcome).where(table.c.run_id == run_id)
    )
    return {(account, region): outcome for account, region, outcome in rows if region != GLOBAL}


def _listing_gaps(connection: Connection) -> set[tuple[str, str, str]]:
    table = Gap.table()
    rows: Iterable[Any] = connection.execute(
        select(table.c.account_id, table.c.region, table.c.operation).where(
            table.c.valid_to.is_(None), table.c.service == "kms", table.c.operation.in_(("ListKeys", "ListAliases"))
        )
    )
    return {(account, region, operation) for account, region, operation in rows}


def _close_unreferenced(connection: Connection, run_id: int) -> None:
    """A reference that a resource no longer makes uses no key any more."""
    usage, reference = ResourceKey.table(), KeyReference.table()
    same = and_(*(usage.c[name] == reference.c[name] for name in KeyReference.natural_key))
    gone = ~exists(select(literal(1)).where(same, reference.c.valid_to.is_(None)))
    connection.execute(update(usage).values(valid_to=run_id).where(usage.c.valid_to.is_(None), gone))
