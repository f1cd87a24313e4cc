"""Mutations of examples: replace an operation's response with a gap, or with the response in another example."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from models.aws_types import TRAIL, aws_type
from models.tables import Gap, Key, KeyMetadata, KeyRotation, Resource, Trail, TrailSelector, TrailStatus
from models.versioned import VersionedTable
from reports.rules.testing.fixture import GLOBAL, Facts, Row, add_gap
from reports.rules.testing.operation_facts import (
    DESCRIBED_BY,
    GLOBAL_LISTINGS,
    IAM,
    NOT_FOR_AWS,
    OF_IAM,
    OF_KEY,
    OF_RESOURCE,
    OF_SCOPE,
    OF_TRAIL,
)

TRAILS = aws_type(TRAIL).listing
ITEM_OPERATIONS: Mapping[str, tuple[type[VersionedTable], ...]] = {**OF_KEY, **OF_TRAIL, **OF_RESOURCE}
"""Operations called for one item, and the facts that they return."""


def operations(facts: Facts) -> list[str]:
    """The actions whose responses this example contains."""
    actions = [action for action in ITEM_OPERATIONS if subjects(facts, action)]
    actions += [
        action
        for action, models in _listings(facts).items()
        if any(_listed(model, row, action) for model in models for row in facts.rows.get(model, ()))
    ]
    return [*actions, *([IAM] if any(facts.rows.get(model) for model in OF_IAM) else [])]


def _listings(facts: Facts) -> dict[str, tuple[type[VersionedTable], ...]]:
    """The listings of an account and region, including those of resource types that the registry lacks."""
    listings = {aws_type(row["resource_type"]).listing for row in facts.rows.get(Resource, ())}
    return {**OF_SCOPE, **dict.fromkeys(sorted(listings - OF_SCOPE.keys()), (Resource,))}


def subjects(facts: Facts, action: str) -> list[str]:
    """The ARNs of the items for which this action returned a response, even an empty one."""
    if action in OF_KEY:
        return [row["key_arn"] for row in facts.rows.get(Key, ()) if _was_called(facts, action, row["key_arn"])]
    if action in OF_TRAIL:
        model: type[VersionedTable] = TrailStatus if action.endswith("Status") else TrailSelector
        return [row["trail_arn"] for row in facts.rows.get(model, ())]
    denied = {(row["action"], row["subject"]) for row in facts.rows.get(Gap, ())}
    return [
        row["resource_arn"]
        for row in facts.rows.get(Resource, ())
        if action in aws_type(row["resource_type"]).item_actions and (action, row["resource_arn"]) not in denied
    ]


def _was_called(facts: Facts, action: str, key_arn: str) -> bool:
    if any(row["action"] == action and row["subject"] == key_arn for row in facts.rows.get(Gap, ())):
        return False
    metadata = next((row for row in facts.rows.get(KeyMetadata, ()) if row["key_arn"] == key_arn), None)
    if action in NOT_FOR_AWS and metadata is not None and metadata["manager"] == "AWS":
        return False
    if action in {"kms:ListGrants", "kms:ListResourceTags"}:
        return True
    if action == "kms:ListKeyRotations":
        return any(
            row["key_arn"] == key_arn and row["status"] != "not_applicable" for row in facts.rows.get(KeyRotation, ())
        )
    return any(row["key_arn"] == key_arn for model in OF_KEY[action] for row in facts.rows.get(model, ()))


def without_operation(facts: Facts, action: str) -> Facts:
    """A copy of the facts in which every call of this action is denied."""
    result = copy_of(facts)
    if action in ITEM_OPERATIONS:
        for subject in subjects(facts, action):
            remove(result, action, subject=subject)
    elif action == IAM:
        for account in (facts.own, facts.other):
            remove(result, action, account=account)
    else:
        for account, region in list(facts.outcomes):
            if facts.outcomes[account, region] in {"complete", "partial"} and (region == GLOBAL) == (
                action in GLOBAL_LISTINGS
            ):
                remove(result, action, account=account, region=region)
    return result


def copy_of(facts: Facts) -> Facts:
    """A copy whose rows can be modified."""
    return replace(
        facts,
        rows={model: [dict(row) for row in rows] for model, rows in facts.rows.items()},
        outcomes=dict(facts.outcomes),
    )


def remove(
    facts: Facts,
    action: str,
    *,
    subject: str = "",
    account: str | None = None,
    region: str | None = None,
    cause: str = "denied",
) -> None:
    """Remove the response of one call and add a gap. Without a subject, the call is a listing of an account and region."""
    if subject:
        for model in ITEM_OPERATIONS.get(action, ()):
            name = DESCRIBED_BY[model]
            facts.rows[model] = [row for row in facts.rows.get(model, ()) if row[name] != subject]
        where = _account_region_of(facts, subject) or (account or facts.own, region or facts.names["region"])
        add_gap(facts, action, subject, where, cause)
        return
    account = account or facts.own
    if action == IAM or action in GLOBAL_LISTINGS:
        region = GLOBAL
    region = region or facts.names["region"]
    removed: set[str] = set()
    models = OF_IAM if action == IAM else OF_SCOPE.get(action, (Resource,))
    for model in (*models, *((Resource,) if action == TRAILS else ())):
        kept = []
        for row in facts.rows.get(model, ()):
            account_region = (row.get("account_id"), row.get("listing_region", row.get("region", GLOBAL)))
            if account_region == (account, region) and _listed(model, row, action):
                removed.add(str(row[model.natural_key[0]]))
            else:
                kept.append(row)
        facts.rows[model] = kept
    for model, name in DESCRIBED_BY.items():
        facts.rows[model] = [row for row in facts.rows.get(model, ()) if row[name] not in removed]
    add_gap(facts, action, "", (account, region), cause)


def _listed(model: type[VersionedTable], row: Row, action: str) -> bool:
    """Whether this listing returns the row; an empty listing of trails has a row of its own."""
    if model is not Resource:
        return True
    return aws_type(row["resource_type"]).listing == action


def _account_region_of(facts: Facts, arn: str) -> tuple[str, str] | None:
    columns: Iterable[tuple[type[VersionedTable], str, str]] = (
        (Key, "key_arn", "region"),
        (Resource, "resource_arn", "listing_region"),
        (Trail, "trail_arn", "region"),
    )
    for model, name, region in columns:
        for row in facts.rows.get(model, ()):
            if row[name] == arn:
                return row["account_id"], row[region]
    return None


Response = tuple[tuple[type[VersionedTable], tuple[tuple[tuple[str, Any], ...], ...]], ...]
"""The response of one call for one item: rows by fact table, without the item's own name, in a comparable form."""


def response_of(facts: Facts, action: str) -> Iterator[tuple[str, Response]]:
    """Yield each item for which this action was called, with the response."""
    for subject in subjects(facts, action):
        tables = []
        for model in ITEM_OPERATIONS[action]:
            name = DESCRIBED_BY[model]
            rows = [row for row in facts.rows.get(model, ()) if row[name] == subject]
            tables.append(
                (model, tuple(tuple((key, value) for key, value in row.items() if key != name) for row in rows))
            )
        yield subject, tuple(tables)


def mutate(facts: Facts, subject: str, response: Response, account: str) -> Facts:
    """A copy of the facts in which an item has a response from an example in another account."""
    result = copy_of(facts)
    translated = facts.translation_from(account)
    for model, rows in response:
        name = DESCRIBED_BY[model]
        kept = [row for row in result.rows.get(model, ()) if row[name] != subject]
        inserted = [{name: subject} | {key: translated(copy.copy(value)) for key, value in row} for row in rows]
        result.rows[model] = kept + inserted
    return result


def swap(facts: Facts, action: str, other: Facts) -> Facts:
    """A copy of the facts in which a listing has the response from another example."""
    result = copy_of(facts)
    translated = facts.translation_from(other.own)
    if action == IAM:
        models: tuple[type[VersionedTable], ...] = OF_IAM
    else:
        models = (*OF_SCOPE.get(action, (Resource,)), *((Resource,) if action == TRAILS else ()))
    for model in models:
        kept = [row for row in result.rows.get(model, ()) if not _listed(model, row, action)]
        replaced = {row[model.natural_key[0]] for row in result.rows.get(model, ()) if _listed(model, row, action)}
        inserted = [
            {key: translated(value) for key, value in row.items()}
            for row in other.rows.get(model, ())
            if _listed(model, row, action)
        ]
        names = {row[model.natural_key[0]] for row in inserted}
        result.rows[model] = kept + inserted
        for child, column in DESCRIBED_BY.items():
            children = [row for row in result.rows.get(child, ()) if row[column] not in replaced - names]
            taken = {row[column] for row in children}
            candidates = [{key: translated(value) for key, value in row.items()} for row in other.rows.get(child, ())]
            new = [
                row
                for row in candidates
                if row[column] in names and row[column] not in taken and row[column] not in replaced
            ]
            result.rows[child] = children + new
    return result
