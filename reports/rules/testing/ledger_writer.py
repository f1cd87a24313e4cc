"""Writes runs into a ledger with the real migrations and the real merge: the examples of rules, and the tests' organizations."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert

from models.aws_types import AWS_TYPES, aws_type
from models.store.engine import opened, upgrade
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, merge
from models.tables import (
    Account,
    AccountRegion,
    Alias,
    Gap,
    IamManagedPolicy,
    Key,
    KeyLastUse,
    KeyLastUseGap,
    KeyMetadata,
    KeyReference,
    Resource,
    ResourceKey,
    Run,
    ScopeCoverage,
    Trail,
    VersionedTable,
    versioned_tables,
)
from reports.rules.testing.fixture import (
    GLOBAL,
    MANAGEMENT,
    ORGANIZATION,
    POLICY,
    READ,
    Facts,
    Row,
    Scope,
    account_values,
)
from reports.rules.testing.operation_facts import IAM, LISTINGS, OF_ITEM, listed_by

LAST_RUN = dt.datetime(2026, 11, 22, 3, 0, tzinfo=dt.UTC)
_LISTED = [(action, model) for action in LISTINGS for model in listed_by(action) if model is not Resource]
_LISTED_BY_ITEM = [
    (parent, model)
    for model in versioned_tables().values()
    for own, parent, _ in model.parents
    if model.listing_key == (own,)
]
"""Facts that are listed for one key, resource or principal, with the table of that item."""


def write(url: str, variants: Sequence[Sequence[Facts]]) -> int:
    """Write examples with all their runs into a new ledger; all end with the same run. Returns the ID of that run."""
    with opened(url) as engine:
        upgrade(engine)
        run_id = 0
        for age in reversed(range(max(len(variant) for variant in variants))):
            shown = [variant[-1 - age] for variant in variants if len(variant) > age]
            organization = Facts()
            home = account_values(MANAGEMENT, "Example Organization") | {"email": "aws@example.org"}
            more = {"is_management": True, "selection": "excluded", "ou_path": "/", "ou_ids": "r-abcd"}
            organization.add(Account, home | more)
            batch = Batch()
            add_facts(batch, [organization, *shown])
            for variant in variants:
                if len(variant) > max(age, 1):  # only earlier runs have rows to close
                    mark_complete(batch, variant[-1 - age])
            outcomes = {
                scope: (outcome, None if outcome in READ else f"the example states the outcome {outcome}")
                for facts in shown
                for scope, outcome in facts.outcomes.items()
            }
            with engine.begin() as connection:
                run_id = record_run(connection, LAST_RUN - dt.timedelta(days=age), outcomes, batch)
                merge(connection, run_id, batch)
    return run_id


def record_run(
    connection: Connection,
    started: dt.datetime,
    outcomes: Mapping[Scope, tuple[str, str | None]],
    batch: Batch,
    **values: Any,
) -> int:
    """Insert a run with its coverage; returns its ID. Each account and region has an outcome and the reason for it."""
    gaps = Counter((row["account_id"], row["region"]) for chunk in batch.iter_chunks(Gap) for row in chunk)
    coverage: list[Row] = [
        {
            "account_id": account,
            "region": region,
            "outcome": outcome,
            "reason": reason,
            "started_at": started if outcome in {*READ, "failed"} else None,
            "finished_at": started + dt.timedelta(minutes=1) if outcome in {*READ, "failed"} else None,
            "calls": 40 if outcome in {*READ, "failed"} else 0,
            "gaps": gaps[account, region],
        }
        for (account, region), (outcome, reason) in outcomes.items()
    ]
    complete = all(outcome in {"complete", "excluded", "disabled"} for outcome, _ in outcomes.values())
    run = {
        "started_at": started,
        "finished_at": started + dt.timedelta(minutes=4),
        "status": "complete" if complete else "partial",
        "version": "examples",
        "caller_arn": f"arn:aws:sts::{MANAGEMENT}:assumed-role/KmsLedger/crawl",
        "partition": "aws",
        "organization_id": ORGANIZATION,
        "management_account_id": MANAGEMENT,
        "accounts": sum(len(chunk) for chunk in batch.iter_chunks(Account)),
        "scopes": len(coverage),
        "calls": sum(scope["calls"] for scope in coverage),
        "gaps": gaps.total(),
    }
    run_id: int = connection.execute(insert(Run).values(run | values).returning(Run.run_id)).scalar_one()
    if coverage:
        connection.execute(insert(ScopeCoverage), [scope | {"run_id": run_id} for scope in coverage])
    return run_id


def add_facts(batch: Batch, shown: Iterable[Facts]) -> None:
    """Add the facts of all accounts and regions that the run read; examples share the managed policies of AWS."""
    managed: set[str] = set()
    for facts in shown:
        scopes = scopes_of(facts)
        for model, rows in (facts.rows | {ResourceKey: facts.rows.get(ResourceKey) or _resource_keys(facts)}).items():
            for row in rows:
                if model is IamManagedPolicy:
                    if row["policy_arn"] in managed:
                        continue
                    managed.add(row["policy_arn"])
                if _is_read(facts, scopes, model, row):
                    batch.add(model, **_stored(batch, row))
        for row in facts.rows.get(KeyLastUse, ()):
            _, _, _, region, account, _ = row["key_arn"].split(":", 5)
            batch.last_use_polls.append(LastUsePoll(row["key_arn"], account, region, LAST_RUN))


def _stored(batch: Batch, row: Row) -> Row:
    if POLICY not in row:
        return row
    values = dict(row)
    text = values.pop(POLICY)
    return values | {"policy_hash": None if text is None else batch.document(text)}


def scopes_of(facts: Facts) -> dict[str, Scope]:
    """The account and region of each key, resource and trail, by ARN."""
    return {
        row[model.natural_key[0]]: (row["account_id"], row.get("listing_region") or row["region"])
        for model in (Trail, Key, Resource)
        for row in facts.rows.get(model, ())
    }


def _is_read(facts: Facts, scopes: Mapping[str, Scope], model: type[VersionedTable], row: Row) -> bool:
    """Whether the run read the account and region of a row."""
    if model in {Account, AccountRegion, Gap, KeyLastUseGap}:
        return True
    if "account_id" in row and "region" in row:
        scope: Scope | None = (row["account_id"], row.get("listing_region") or row["region"])
    else:
        scope = scopes.get(row[model.natural_key[0]])
    return scope is None or facts.outcomes.get(scope, "complete") in READ


def mark_complete(batch: Batch, facts: Facts) -> None:
    """Mark every listing complete that was read and not denied, so that the facts that it lacks are closed."""
    gaps = facts.rows.get(Gap, ())
    denied = {(row["action"], row["subject"] or (row["account_id"], row["region"])) for row in gaps}
    denied_items = {(model, subject) for action, subject in denied for model in OF_ITEM.get(action, ())}
    types = {*AWS_TYPES, *(row["resource_type"] for row in facts.rows.get(Resource, ()))}
    for scope, outcome in facts.outcomes.items():
        batch.mark_complete(Gap, *scope)
        if outcome not in READ:
            continue
        batch.mark_complete(AccountRegion, scope[0])
        for action, model in _LISTED:
            if (action, scope) not in denied and (scope[1] == GLOBAL or action != IAM):
                batch.mark_complete(model, *(scope[:1] if action == IAM else scope))
        for name in types:
            if (aws_type(name).listing, scope) not in denied:
                batch.mark_complete(Resource, *scope, name)
    scopes = scopes_of(facts)
    polled = {row["key_arn"] for row in facts.rows.get(KeyLastUse, ())}
    for parent in (Key, Resource):
        listed = [model for table, model in _LISTED_BY_ITEM if table == parent.__tablename__]
        for row in facts.rows.get(parent, ()):
            arn = row[parent.natural_key[0]]
            for model in listed if facts.outcomes.get(scopes[arn]) in READ else ():
                if (model, arn) not in denied_items and (model is not KeyLastUseGap or arn in polled):
                    batch.mark_complete(model, arn)


def _resource_keys(facts: Facts) -> list[Row]:
    """The keys that references resolve to, as in the crawler: by the keys and aliases of the run."""
    references = facts.rows.get(KeyReference)
    if not references:
        return []
    scopes = scopes_of(facts)
    keys = {row["key_arn"] for row in facts.rows.get(Key, ()) if _is_read(facts, scopes, Key, row)}
    managers = {row["key_arn"]: row["manager"] for row in facts.rows.get(KeyMetadata, ())}
    targets = {
        row["alias_arn"]: row["target_key_arn"]
        for row in facts.rows.get(Alias, ())
        if _is_read(facts, scopes, Alias, row)
    }
    managers |= {
        target: "AWS" for arn, target in targets.items() if ":alias/aws/" in arn and managers.get(target) is None
    }
    denied = {
        (row["account_id"], row["region"], row["action"]) for row in facts.rows.get(Gap, ()) if not row["subject"]
    }

    def resolved(row: Row) -> tuple[str | None, str, str | None]:
        if row["declared_class"]:
            return None, row["declared_class"], row["reason"]
        target, where = row["target_arn"], (row["target_account"], row["target_region"])
        through_alias, scope = ":alias/" in target, f"account {where[0]}, region {where[1]}"
        key_arn = targets.get(target) if through_alias else target
        if key_arn in keys:
            known = {"CUSTOMER": "customer", "AWS": "aws_managed"}.get(managers.get(key_arn) or "")
            return key_arn, known or "unknown", None if known else "the key exists, but it could not be described"
        if ":alias/aws/" in target:
            return key_arn, "aws_managed", None if key_arn else "the AWS managed key is not in the inventory"
        if facts.outcomes.get(where) not in READ:
            return key_arn, "not_crawled", f"{scope} was not crawled"
        if through_alias and (*where, "kms:ListAliases") in denied:
            return key_arn, "unknown", f"the aliases of {scope} could not be listed"
        if not key_arn:
            return None, "dangling", f"there is no such alias in {scope}, or it points to no key"
        if (*where, "kms:ListKeys") in denied:
            return key_arn, "unknown", f"the keys of {scope} could not be listed"
        return key_arn, "dangling", f"the key no longer exists in {scope}"

    names = ("key_arn", "key_class", "reason")
    return [
        {name: row[name] for name in ResourceKey.natural_key} | dict(zip(names, resolved(row), strict=True))
        for row in references
    ]
