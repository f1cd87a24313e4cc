"""Parses the key references of resources and resolves them against the keys and aliases in the ledger.

A bare id or alias names a key in the account and region of the resource. No AWS call is made here; DescribeKey in particular
is never used to resolve an alias, because it could create the AWS managed key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, MappingResult, RowMapping, and_, exists, func, literal, select, update

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

CHUNK_SIZE = 20_000
"""References resolved per transaction."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed key reference: its format, and the ARN of the key or alias that it names."""

    form: Form
    raw: str | None = None
    target_arn: str | None = None
    target_account: str | None = None
    target_region: str | None = None
    declared_class: KeyClass | None = None
    reason: str | None = None


def parse_reference(raw: Any, scope: Scope) -> Reference:
    """Parse a non-empty value."""
    if not isinstance(raw, str):
        return Reference(Form.MALFORMED, str(raw), declared_class=KeyClass.UNKNOWN, reason="the value is not a string")
    for pattern, form in ((_KEY_ARN, Form.KEY_ARN), (_ALIAS_ARN, Form.ALIAS_ARN)):
        match = pattern.fullmatch(raw)
        if match:
            return Reference(form, raw, raw, match[3], match[2])
    if raw in SENTINELS:
        return Reference(Form.SENTINEL, raw, declared_class=SENTINELS[raw], reason=f"the service returned {raw}")
    if _ALIAS.fullmatch(raw):
        return _of_scope(Form.ALIAS_NAME, raw, raw, scope)
    if _KEY_ID.fullmatch(raw):
        return _of_scope(Form.KEY_ID, raw, f"key/{raw}", scope)
    return Reference(
        Form.MALFORMED,
        raw,
        declared_class=KeyClass.UNKNOWN,
        reason="the value is not a key id, key ARN, alias name or alias ARN",
    )


def default_reference(default: DefaultKey, scope: Scope) -> Reference | None:
    """Return the reference of a resource that names no key; ``None`` if it uses no key at all."""
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
    """What this run knows of the account-regions that references name."""

    outcomes: Mapping[tuple[str, str], str]
    gaps: frozenset[tuple[str, str, str]]
    """Account, region and operation of listings that failed."""


def resolve(reference: Mapping[str, Any] | RowMapping, known: Known) -> tuple[str | None, KeyClass, str | None]:
    """Return key ARN, class and reason of a row of :func:`open_references`.

    A key is dangling only if a complete listing does not show it.
    """
    if reference["declared_class"] is not None:
        return None, KeyClass(reference["declared_class"]), reference["reason"]
    target_arn = reference["target_arn"] or ""
    name = target_arn.rpartition(":")[2]
    through_alias = ":alias/" in target_arn
    key_arn = reference["alias_target"] if through_alias else target_arn
    if reference["known_key"]:
        return reference["known_key"], *_class_of(reference)
    scope = (reference["target_account"], reference["target_region"])
    where = f"account {scope[0]}, region {scope[1]}"
    if ":alias/aws/" in target_arn:
        reason = None if key_arn else f"the AWS managed key {name} is not in the inventory"
        return key_arn, KeyClass.AWS_MANAGED, reason
    if known.outcomes.get(scope) not in {Outcome.COMPLETE, Outcome.PARTIAL}:
        return (key_arn or None), KeyClass.NOT_CRAWLED, f"{where} was not crawled"
    if through_alias and (*scope, "ListAliases") in known.gaps:
        # A known alias may point to another key by now.
        return key_arn, KeyClass.UNKNOWN, f"the aliases of {where} could not be listed"
    if through_alias and reference["known_alias"] is None:
        return None, KeyClass.DANGLING, f"{name} does not exist in {where}"
    if not key_arn:
        return None, KeyClass.DANGLING, f"{name} points to no key"
    if (*scope, "ListKeys") in known.gaps:
        return key_arn, KeyClass.UNKNOWN, f"the keys of {where} could not be listed"
    return key_arn, KeyClass.DANGLING, f"the key no longer exists in {where}"


def _class_of(reference: Mapping[str, Any] | RowMapping) -> tuple[KeyClass, str | None]:
    if reference["known_manager"] == "CUSTOMER":
        return KeyClass.CUSTOMER, None
    if reference["known_manager"] == "AWS" or reference["has_aws_alias"]:
        return KeyClass.AWS_MANAGED, None
    return KeyClass.UNKNOWN, "the key exists, but DescribeKey failed"


def resolve_references(engine: Engine, run_id: int) -> None:
    """Resolve every open reference against the keys and aliases in the ledger and store the result with its history.

    Runs once after all scopes are saved, because an alias may move or a key may disappear in another scope. References are
    read on one connection and written on another, in chunks; a resumed run resolves what a killed run left out.
    """
    with engine.connect() as read_connection:
        known = Known(_outcomes(read_connection, run_id), _listing_gaps(read_connection))
        references = open_references(read_connection)
        for chunk in references.partitions(CHUNK_SIZE):
            batch = Batch()
            resolutions = [(row, resolve(row, known)) for row in chunk]
            with engine.begin() as connection:
                elsewhere = _keys_by_id(
                    connection, [row for row, (_, key_class, _) in resolutions if _is_bare(row, key_class)]
                )
                for row, resolution in resolutions:
                    where = elsewhere.get(row["raw_value"]) if _is_bare(row, resolution[1]) else None
                    key_arn, key_class, reason = _exists_elsewhere(row, *where) if where else resolution
                    natural_key = {name: row[name] for name in ResourceKey.natural_key}
                    batch.add(ResourceKey, **natural_key, key_arn=key_arn, key_class=str(key_class), reason=reason)
                merge(connection, run_id, batch)
                crawl_lock.heartbeat(connection, run_id)
    with engine.begin() as connection:
        _close_unreferenced(connection, run_id)


def _is_bare(reference: Mapping[str, Any] | RowMapping, key_class: KeyClass) -> bool:
    """Whether a key was not found by an ID that names neither account nor region."""
    return reference["format"] == Form.KEY_ID and key_class is KeyClass.DANGLING


def _keys_by_id(connection: Connection, references: Sequence[RowMapping]) -> dict[str, tuple[str, str]]:
    """Return the account and region of the keys with the IDs of references, by ID: the first ones by ARN."""
    if not references:
        return {}
    key = Key.table()
    query = (
        select(key.c.key_id, key.c.account_id, key.c.region)
        .where(key.c.key_id.in_({row["raw_value"] for row in references}), key.c.valid_to.is_(None))
        .order_by(key.c.key_arn.desc())
    )
    return {key_id: (account, region) for key_id, account, region in connection.execute(query)}


def _exists_elsewhere(reference: RowMapping, account: str, region: str) -> tuple[None, KeyClass, str]:
    where = f"account {reference['target_account']}, region {reference['target_region']}"
    return (
        None,
        KeyClass.UNKNOWN,
        f"{where} has no key with this ID; a key with this ID exists in account {account}, region {region}",
    )


def open_references(connection: Connection) -> MappingResult:
    """Return the open references, each with the alias and the key that it names as far as the ledger has them."""
    reference, alias, key, metadata = (model.table() for model in (KeyReference, Alias, Key, KeyMetadata))
    aws_alias = alias.alias("aws_alias")
    managed = exists(
        select(literal(1)).where(
            # Without metadata: the search reads all aliases of the account-region.
            metadata.c.manager.is_(None),
            # An alias is in the account-region of its key; this matches the index.
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
            managed.label("has_aws_alias"),
        )
        .select_from(reference.outerjoin(alias, to_alias).outerjoin(key, to_key).outerjoin(metadata, to_metadata))
        .where(reference.c.valid_to.is_(None))
    )
    return connection.execution_options(yield_per=CHUNK_SIZE).execute(query).mappings()


def _outcomes(connection: Connection, run_id: int) -> dict[tuple[str, str], str]:
    table = ScopeCoverage.__table__
    rows = connection.execute(
        select(table.c.account_id, table.c.region, table.c.outcome).where(table.c.run_id == run_id)
    )
    return {(account, region): outcome for account, region, outcome in rows if region != GLOBAL}


def _listing_gaps(connection: Connection) -> frozenset[tuple[str, str, str]]:
    table = Gap.table()
    rows: Iterable[Any] = connection.execute(
        select(table.c.account_id, table.c.region, table.c.operation).where(
            table.c.valid_to.is_(None), table.c.service == "kms", table.c.operation.in_(("ListKeys", "ListAliases"))
        )
    )
    return frozenset((account, region, operation) for account, region, operation in rows)


def _close_unreferenced(connection: Connection, run_id: int) -> None:
    """Close the key use of every closed reference."""
    use, reference = ResourceKey.table(), KeyReference.table()
    same = and_(*(use.c[name] == reference.c[name] for name in KeyReference.natural_key))
    unreferenced = ~exists(select(literal(1)).where(same, reference.c.valid_to.is_(None)))
    connection.execute(update(use).values(valid_to=run_id).where(use.c.valid_to.is_(None), unreferenced))
