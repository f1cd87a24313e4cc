"""What an operation told is taken away, with a gap in its place; and what other examples were told, put there instead."""

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
ABOUT_ONE: Mapping[str, tuple[type[VersionedTable], ...]] = {**OF_KEY, **OF_TRAIL, **OF_RESOURCE}
"""Questions about one thing, and what they tell."""


def operations(facts: Facts) -> list[str]:
    """The actions that told something of this example."""
    found = [action for action in ABOUT_ONE if subjects(facts, action)]
    found += [
        action
        for action, told in _listings(facts).items()
        if any(_listed(model, row, action) for model in told for row in facts.rows.get(model, ()))
    ]
    return [*found, *([IAM] if any(facts.rows.get(model) for model in OF_IAM) else [])]


def _listings(facts: Facts) -> dict[str, tuple[type[VersionedTable], ...]]:
    """The listings of an account and region, those of types without an entry in the registry included."""
    listings = {aws_type(row["resource_type"]).listing for row in facts.rows.get(Resource, ())}
    return {**OF_SCOPE, **dict.fromkeys(sorted(listings - OF_SCOPE.keys()), (Resource,))}


def subjects(facts: Facts, action: str) -> list[str]:
    """The ARNs of the things that were asked this; it was answered, if only with nothing."""
    if action in OF_KEY:
        return [row["key_arn"] for row in facts.rows.get(Key, ()) if _asked(facts, action, row["key_arn"])]
    if action in OF_TRAIL:
        model: type[VersionedTable] = TrailStatus if action.endswith("Status") else TrailSelector
        return [row["trail_arn"] for row in facts.rows.get(model, ())]
    refused = {(row["action"], row["subject"]) for row in facts.rows.get(Gap, ())}
    return [
        row["resource_arn"]
        for row in facts.rows.get(Resource, ())
        if action in aws_type(row["resource_type"]).item_actions and (action, row["resource_arn"]) not in refused
    ]


def _asked(facts: Facts, action: str, key_arn: str) -> bool:
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


def without(facts: Facts, action: str) -> Facts:
    """The facts as they would be had every call of this action been refused."""
    found = copied(facts)
    if action in ABOUT_ONE:
        for subject in subjects(facts, action):
            take_away(found, action, subject=subject)
    elif action == IAM:
        for account in (facts.own, facts.other):
            take_away(found, action, account=account)
    else:
        for account, region in list(facts.outcomes):
            if facts.outcomes[account, region] in {"complete", "partial"} and (region == GLOBAL) == (
                action in GLOBAL_LISTINGS
            ):
                take_away(found, action, account=account, region=region)
    return found


def copied(facts: Facts) -> Facts:
    """A copy whose rows can be changed."""
    return replace(
        facts,
        rows={model: [dict(row) for row in rows] for model, rows in facts.rows.items()},
        outcomes=dict(facts.outcomes),
    )


def take_away(
    facts: Facts,
    action: str,
    *,
    subject: str = "",
    account: str | None = None,
    region: str | None = None,
    cause: str = "denied",
) -> None:
    """Remove what one call told, and add the gap. Without a subject it is a listing of an account and region."""
    if subject:
        for model in ABOUT_ONE.get(action, ()):
            name = DESCRIBED_BY[model]
            facts.rows[model] = [row for row in facts.rows.get(model, ()) if row[name] != subject]
        where = _place_of(facts, subject) or (account or facts.own, region or facts.names["region"])
        add_gap(facts, action, subject, where, cause)
        return
    account = account or facts.own
    if action == IAM or action in GLOBAL_LISTINGS:
        region = GLOBAL
    region = region or facts.names["region"]
    gone: set[str] = set()
    told = OF_IAM if action == IAM else OF_SCOPE.get(action, (Resource,))
    for model in (*told, *((Resource,) if action == TRAILS else ())):
        kept = []
        for row in facts.rows.get(model, ()):
            place = (row.get("account_id"), row.get("listing_region", row.get("region", GLOBAL)))
            if place == (account, region) and _listed(model, row, action):
                gone.add(str(row[model.natural_key[0]]))
            else:
                kept.append(row)
        facts.rows[model] = kept
    for model, name in DESCRIBED_BY.items():
        facts.rows[model] = [row for row in facts.rows.get(model, ()) if row[name] not in gone]
    add_gap(facts, action, "", (account, region), cause)


def _listed(model: type[VersionedTable], row: Row, action: str) -> bool:
    """Whether this listing shows the row; an empty listing of trails is told by its own row."""
    if model is not Resource:
        return True
    return aws_type(row["resource_type"]).listing == action


def _place_of(facts: Facts, arn: str) -> tuple[str, str] | None:
    places: Iterable[tuple[type[VersionedTable], str, str]] = (
        (Key, "key_arn", "region"),
        (Resource, "resource_arn", "listing_region"),
        (Trail, "trail_arn", "region"),
    )
    for model, name, region in places:
        for row in facts.rows.get(model, ()):
            if row[name] == arn:
                return row["account_id"], row[region]
    return None


Told = tuple[tuple[type[VersionedTable], tuple[tuple[tuple[str, Any], ...], ...]], ...]
"""What one call told of one thing: by facet the rows, without the thing's own name, in a form that can be compared."""


def told(facts: Facts, action: str) -> Iterator[tuple[str, Told]]:
    """What this action told of each thing that was asked."""
    for subject in subjects(facts, action):
        parts = []
        for model in ABOUT_ONE[action]:
            name = DESCRIBED_BY[model]
            rows = [row for row in facts.rows.get(model, ()) if row[name] == subject]
            parts.append((model, tuple(tuple((key, one) for key, one in row.items() if key != name) for row in rows)))
        yield subject, tuple(parts)


def crossed(facts: Facts, subject: str, instead: Told, account: str) -> Facts:
    """The facts with what an example in another account was told of something put in the place of what was told here."""
    found = copied(facts)
    moved = facts.cross(account)
    for model, rows in instead:
        name = DESCRIBED_BY[model]
        kept = [row for row in found.rows.get(model, ()) if row[name] != subject]
        fresh = [{name: subject} | {key: moved(copy.copy(value)) for key, value in row} for row in rows]
        found.rows[model] = kept + fresh
    return found


def swapped(facts: Facts, action: str, instead: Facts) -> Facts:
    """The facts with all that a listing showed in another example in place of what it showed here."""
    found = copied(facts)
    moved = facts.cross(instead.own)
    if action == IAM:
        listed: tuple[type[VersionedTable], ...] = OF_IAM
    else:
        listed = (*OF_SCOPE.get(action, (Resource,)), *((Resource,) if action == TRAILS else ()))
    for model in listed:
        kept = [row for row in found.rows.get(model, ()) if not _listed(model, row, action)]
        gone = {row[model.natural_key[0]] for row in found.rows.get(model, ()) if _listed(model, row, action)}
        fresh = [
            {key: moved(value) for key, value in row.items()}
            for row in instead.rows.get(model, ())
            if _listed(model, row, action)
        ]
        names = {row[model.natural_key[0]] for row in fresh}
        found.rows[model] = kept + fresh
        for child, column in DESCRIBED_BY.items():
            stay = [row for row in found.rows.get(child, ()) if row[column] not in gone - names]
            taken = {row[column] for row in stay}
            here = [{key: moved(value) for key, value in row.items()} for row in instead.rows.get(child, ())]
            new = [row for row in here if row[column] in names and row[column] not in taken and row[column] not in gone]
            found.rows[child] = stay + new
    return found
