"""Writes the accounts of all examples into one ledger, with the real migrations and the real merge."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, insert

from models.store.engine import connect, upgrade
from models.store.last_use_queue import LastUsePoll
from models.store.scd2_merge import Batch, merge
from models.tables import (
    Account,
    AccountRegion,
    Alias,
    CustomKeyStore,
    Gap,
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    Key,
    KeyGrant,
    KeyLastUse,
    KeyLastUseGap,
    KeyMetadata,
    KeyReference,
    KeyRotationEvent,
    Resource,
    ResourceKey,
    Run,
    ScopeCoverage,
    ShadowTrail,
    Tag,
    Trail,
    TrailScan,
)
from models.versioned import VersionedTable
from reports.rules.testing.fixture import GLOBAL, LAST_RUN, MANAGEMENT, ORGANIZATION, POLICY, Facts, Row

_READ = frozenset({"complete", "partial"})
_BY_SCOPE: tuple[type[VersionedTable], ...] = (Key, Alias, CustomKeyStore, Trail, TrailScan, ShadowTrail)
_BY_KEY: tuple[type[VersionedTable], ...] = (KeyGrant, KeyRotationEvent, Tag, KeyLastUseGap)
_BY_ACCOUNT: tuple[type[VersionedTable], ...] = (
    IamScan,
    IamPrincipal,
    IamGroup,
    IamMembership,
    IamAttachment,
    IamInlinePolicy,
    IamManagedPolicy,
    AccountRegion,
)


def write(url: str, variants: Sequence[Sequence[Facts]]) -> int:
    """Write examples with all their runs into a new ledger; all end with the same run. Returns the ID of that run."""
    engine = connect(url)
    try:
        upgrade(engine)
        runs = max(len(variant) for variant in variants)
        run_id = 0
        for age in range(runs - 1, -1, -1):
            shown = [(variant[-1 - age], len(variant) > 1) for variant in variants if len(variant) > age]
            with engine.begin() as connection:
                run_id = _run(connection, LAST_RUN - dt.timedelta(days=age), [facts for facts, _ in shown])
                merge(connection, run_id, _batch(shown))
    finally:
        engine.dispose()
    return run_id


def _run(connection: Connection, started: dt.datetime, shown: Iterable[Facts]) -> int:
    ended = {"started_at": started, "finished_at": started + dt.timedelta(minutes=4)}
    outcomes = [
        {
            "account_id": account,
            "region": region,
            "outcome": outcome,
            "reason": None if outcome in _READ else f"the example states the outcome {outcome}",
            **(ended if outcome in {*_READ, "failed"} else {"started_at": None, "finished_at": None}),
            "calls": 40,
            "gaps": 0,
        }
        for facts in shown
        for (account, region), outcome in facts.outcomes.items()
    ]
    run_id: int = connection.execute(
        insert(Run)
        .values(
            **ended,
            status="complete" if all(scope["outcome"] == "complete" for scope in outcomes) else "partial",
            version="examples",
            caller_arn=f"arn:aws:sts::{MANAGEMENT}:assumed-role/KmsLedger/run",
            partition="aws",
            organization_id=ORGANIZATION,
            management_account_id=MANAGEMENT,
            accounts=0,
            scopes=len(outcomes),
            calls=0,
            gaps=0,
        )
        .returning(Run.run_id)
    ).scalar_one()
    connection.execute(insert(ScopeCoverage), [scope | {"run_id": run_id} for scope in outcomes])
    return run_id


def _batch(shown: Sequence[tuple[Facts, bool]]) -> Batch:
    batch = Batch()
    home = {"name": "Example Organization", "email": "aws@example.org", "state": "ACTIVE", "ou_path": "/"}
    home |= {"arn": f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{MANAGEMENT}", "ou_ids": "r-abcd"}
    joined = dt.datetime(2020, 5, 1, tzinfo=dt.UTC)
    more = {"joined_at": joined, "is_management": True, "selection": "excluded"}
    batch.add(Account, account_id=MANAGEMENT, **home, **more)
    managed: set[str] = set()
    for facts, has_earlier_runs in shown:
        rows_by_model: dict[type[VersionedTable], list[Row]] = {**facts.rows, ResourceKey: _resource_keys(facts)}
        for model, rows in rows_by_model.items():
            for row in rows:
                if model is IamManagedPolicy:
                    if row["policy_arn"] in managed:
                        continue
                    managed.add(row["policy_arn"])
                if not _is_unread(facts, model, row):
                    batch.add(model, **_stored(batch, row))
        for row in facts.rows.get(KeyLastUse, ()):
            _, _, _, region, account, _ = row["key_arn"].split(":", 5)
            batch.last_use_polls.append(LastUsePoll(row["key_arn"], account, region, LAST_RUN))
        if has_earlier_runs:
            _complete(batch, facts)
    return batch


def _stored(batch: Batch, row: Row) -> Mapping[str, Any]:
    if POLICY not in row:
        return row
    text = row[POLICY]
    values = {name: value for name, value in row.items() if name != POLICY}
    return values | {"policy_hash": None if text is None else batch.document(text)}


def _is_unread(facts: Facts, model: type[VersionedTable], row: Row) -> bool:
    """Whether the row belongs to an account and region that the run did not read."""
    if model in {Account, AccountRegion, Gap, KeyLastUseGap}:
        return False
    account_region = _account_region(facts, model, row)
    return account_region is not None and facts.outcomes.get(account_region, "complete") not in _READ


def _account_region(facts: Facts, model: type[VersionedTable], row: Row) -> tuple[str, str] | None:
    if "account_id" in row and model is not Resource and "region" in row:
        return row["account_id"], row["region"]
    if model is Resource:
        return row["account_id"], row["listing_region"]
    arn = str(row[model.natural_key[0]])
    if arn.startswith("arn:aws:kms:"):
        return arn.split(":")[4], arn.split(":")[3]
    for resource in facts.rows.get(Resource, ()):
        if resource["resource_arn"] == arn:
            return resource["account_id"], resource["listing_region"]
    return None


def _complete(batch: Batch, facts: Facts) -> None:
    """Mark every listing complete that was not denied; needed only if earlier runs have rows to close."""
    denied = {(row["account_id"], row["region"], row["operation"], row["subject"]) for row in facts.rows.get(Gap, ())}
    listing: dict[type[VersionedTable], str] = {
        Key: "ListKeys",
        Alias: "ListAliases",
        CustomKeyStore: "DescribeCustomKeyStores",
    }
    of_key: dict[type[VersionedTable], str] = {
        KeyGrant: "ListGrants",
        KeyRotationEvent: "ListKeyRotations",
        Tag: "ListResourceTags",
    }
    for (account, region), outcome in facts.outcomes.items():
        batch.mark_complete(Gap, account, region)
        if outcome not in _READ:
            continue
        for model in _BY_SCOPE:
            if (account, region, listing.get(model, "DescribeTrails"), "") not in denied:
                batch.mark_complete(model, account, region)
        if region == GLOBAL:
            for model in _BY_ACCOUNT:
                if (account, GLOBAL, "GetAccountAuthorizationDetails", "") not in denied:
                    batch.mark_complete(model, account)
        all_listed = not any(row[:2] == (account, region) and not row[3] for row in denied)
        for kind in {row["resource_type"] for row in facts.rows.get(Resource, ())} if all_listed else ():
            batch.mark_complete(Resource, account, region, kind)
    for row in facts.rows.get(Key, ()):
        for model in _BY_KEY:
            where = (row["account_id"], row["region"])
            if (*where, of_key.get(model, ""), row["key_arn"]) not in denied and facts.outcomes.get(where) in _READ:
                batch.mark_complete(model, row["key_arn"])
    for row in facts.rows.get(Resource, ()):
        if not any(subject == row["resource_arn"] for *_, subject in denied):
            batch.mark_complete(KeyReference, row["resource_arn"])
            batch.mark_complete(Tag, row["resource_arn"])


def _resource_keys(facts: Facts) -> list[Row]:
    """The keys that references resolve to, as in the crawler: by the keys and aliases of the run."""
    keys = {row["key_arn"] for row in facts.rows.get(Key, ()) if not _is_unread(facts, Key, row)}
    managers = {row["key_arn"]: row["manager"] for row in facts.rows.get(KeyMetadata, ())}
    aliases = {row["alias_arn"]: row for row in facts.rows.get(Alias, ()) if not _is_unread(facts, Alias, row)}
    of_aws = {row["target_key_arn"] for row in aliases.values() if row["alias_name"].startswith("alias/aws/")}
    denied = {
        (row["account_id"], row["region"], row["operation"])
        for row in facts.rows.get(Gap, ())
        if row["service"] == "kms" and not row["subject"]
    }
    resolved: list[Row] = []
    for row in facts.rows.get(KeyReference, ()):
        key_arn, key_class, reason = _resolved(facts, row, keys, managers, aliases, of_aws, denied)
        position = {name: row[name] for name in ResourceKey.natural_key}
        resolved.append({**position, "key_arn": key_arn, "key_class": key_class, "reason": reason})
    return resolved


def _resolved(  # noqa: PLR0917 - the run's facts, one argument each
    facts: Facts,
    row: Row,
    keys: set[str],
    managers: Mapping[str, str | None],
    aliases: Mapping[str, Row],
    of_aws: set[str],
    denied: set[tuple[str, str, str]],
) -> tuple[str | None, str, str | None]:
    if row["declared_class"]:
        return None, row["declared_class"], row["reason"]
    target, where = row["target_arn"], (row["target_account"], row["target_region"])
    through_alias = ":alias/" in target
    alias = aliases.get(target)
    key_arn = (alias["target_key_arn"] if alias else None) if through_alias else target
    scope = f"account {where[0]}, region {where[1]}"
    if key_arn in keys:
        manager = managers.get(key_arn)
        if manager == "CUSTOMER":
            return key_arn, "customer", None
        if manager == "AWS" or key_arn in of_aws:
            return key_arn, "aws_managed", None
        return key_arn, "unknown", "the key exists, but it could not be described"
    if ":alias/aws/" in target:
        return key_arn, "aws_managed", None if key_arn else "the AWS managed key is not in the inventory"
    if facts.outcomes.get(where) not in _READ:
        return key_arn, "not_crawled", f"{scope} was not crawled"
    if through_alias and (*where, "ListAliases") in denied:
        return key_arn, "unknown", f"the aliases of {scope} could not be listed"
    if not key_arn:
        return None, "dangling", f"there is no such alias in {scope}, or it points to no key"
    if (*where, "ListKeys") in denied:
        return key_arn, "unknown", f"the keys of {scope} could not be listed"
    return key_arn, "dangling", f"the key no longer exists in {scope}"
