"""Mutations of examples: replace an operation's response with a gap, or with the response in another example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from models.aws_types import aws_type
from models.tables import Gap, Key, KeyMetadata, KeyRotation, Resource, VersionedTable
from reports.rules.testing.fixture import GLOBAL, READ, Facts, Row, add_gap
from reports.rules.testing.ledger_writer import scopes_of
from reports.rules.testing.operation_facts import (
    DESCRIBED_BY,
    GLOBAL_LISTINGS,
    IAM,
    LISTINGS,
    NOT_FOR_AWS,
    OF_ITEM,
    OF_KEY,
    OF_TRAIL,
    listed_by,
)

Response = dict[type[VersionedTable], list[Row]]
"""The response of one call for one item: rows by fact table, without the item's own name."""
Listing = dict[type[VersionedTable], tuple[list[Row], dict[type[VersionedTable], list[Row]]]]
"""The response of a listing by fact table: the rows of the items, and by table those that describe them."""


def operations(facts: Facts) -> list[str]:
    """The actions whose responses this example contains; resource types that the registry lacks have listings, too."""
    resources = sorted({aws_type(row["resource_type"]).listing for row in facts.rows.get(Resource, ())})
    listings = dict.fromkeys([*(action for action in LISTINGS if action != IAM), *resources, IAM])
    return [
        *(action for action in OF_ITEM if subjects(facts, action)),
        *(action for action in listings if any(_listed(facts, model, action) for model in listed_by(action))),
    ]


def subjects(facts: Facts, action: str) -> list[str]:
    """The ARNs of the items for which this action returned a response, even an empty one."""
    denied = {row["subject"] for row in facts.rows.get(Gap, ()) if row["action"] == action}
    if action in OF_KEY:
        arns = [row["key_arn"] for row in facts.rows.get(Key, ()) if _was_called(facts, action, row["key_arn"])]
    elif action in OF_TRAIL:
        arns = [row["trail_arn"] for row in facts.rows.get(OF_TRAIL[action][0], ())]
        denied = set()
    else:
        rows = facts.rows.get(Resource, ())
        arns = [row["resource_arn"] for row in rows if action in aws_type(row["resource_type"]).item_actions]
    return [arn for arn in arns if arn not in denied]


def _was_called(facts: Facts, action: str, key_arn: str) -> bool:
    metadata = next(iter(_of_item(facts, KeyMetadata, key_arn)), None)
    if action in NOT_FOR_AWS and metadata is not None and metadata["manager"] == "AWS":
        return False
    if action in {"kms:ListGrants", "kms:ListResourceTags"}:
        return True
    if action == "kms:ListKeyRotations":
        return any(row["status"] != "not_applicable" for row in _of_item(facts, KeyRotation, key_arn))
    return any(_of_item(facts, model, key_arn) for model in OF_KEY[action])


def _of_item(facts: Facts, model: type[VersionedTable], arn: str) -> list[Row]:
    return [row for row in facts.rows.get(model, ()) if row[DESCRIBED_BY[model]] == arn]


def without_operation(facts: Facts, action: str) -> Facts:
    """A copy of the facts in which every call of this action is denied."""
    result = _copy(facts)
    if action in OF_ITEM:
        for subject in subjects(facts, action):
            remove(result, action, subject=subject)
    elif action == IAM:
        for account in (facts.own, facts.other):
            remove(result, action, account=account)
    else:
        for (account, region), outcome in facts.outcomes.items():
            if outcome in READ and (region == GLOBAL) == (action in GLOBAL_LISTINGS):
                remove(result, action, account=account, region=region)
    return result


def _copy(facts: Facts) -> Facts:
    """A copy whose lists of rows and outcomes can be modified; rows themselves never change."""
    return replace(facts, rows=dict(facts.rows), outcomes=dict(facts.outcomes))


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
    stated = (account or facts.own, region or facts.names["region"])
    if subject:
        for model in OF_ITEM.get(action, ()):
            _keep(facts, model, {subject})
        add_gap(facts, action, subject, scopes_of(facts).get(subject, stated), cause)
        return
    if action in GLOBAL_LISTINGS:
        stated = (stated[0], GLOBAL)
    removed: set[str] = set()
    for model in listed_by(action):
        listed = [
            row
            for row in _listed(facts, model, action)
            if (row["account_id"], row.get("listing_region", row.get("region", GLOBAL))) == stated
        ]
        removed |= {str(row[model.natural_key[0]]) for row in listed}
        facts.rows[model] = [row for row in facts.rows.get(model, ()) if row not in listed]
    for model in DESCRIBED_BY:
        _keep(facts, model, removed)
    add_gap(facts, action, "", stated, cause)


def _keep(facts: Facts, model: type[VersionedTable], removed: set[str]) -> None:
    """Remove the facts that describe these items."""
    facts.rows[model] = [row for row in facts.rows.get(model, ()) if row[DESCRIBED_BY[model]] not in removed]


def _listed(facts: Facts, model: type[VersionedTable], action: str) -> list[Row]:
    """The rows that a listing returns; an empty listing of trails has a row of its own."""
    rows = facts.rows.get(model, [])
    return [row for row in rows if model is not Resource or aws_type(row["resource_type"]).listing == action]


def response_of(facts: Facts, action: str) -> Iterator[tuple[str, Response]]:
    """Yield each item for which this action was called, with the response."""
    for subject in subjects(facts, action):
        yield (
            subject,
            {
                model: [
                    {name: value for name, value in row.items() if name != DESCRIBED_BY[model]}
                    for row in _of_item(facts, model, subject)
                ]
                for model in OF_ITEM[action]
            },
        )


def mutate(facts: Facts, subject: str, response: Response, account: str) -> Facts:
    """A copy of the facts in which an item has a response from an example in another account."""
    result = _copy(facts)
    translated = facts.translation_from(account)
    for model, rows in response.items():
        _keep(result, model, {subject})
        result.rows[model] += [{DESCRIBED_BY[model]: subject} | translated(row) for row in rows]
    return result


def listing_of(facts: Facts, action: str) -> Listing:
    """The response of a listing: the rows of its items, and those that describe them."""
    listing: Listing = {}
    for model in listed_by(action):
        items = _listed(facts, model, action)
        names = {row[model.natural_key[0]] for row in items}
        described = {
            child: [row for row in facts.rows.get(child, ()) if row[column] in names]
            for child, column in DESCRIBED_BY.items()
        }
        listing[model] = items, {child: rows for child, rows in described.items() if rows}
    return listing


def swap(facts: Facts, action: str, listing: Listing, account: str) -> Facts:
    """A copy of the facts in which a listing has the response from an example in another account."""
    result = _copy(facts)
    translated = facts.translation_from(account)
    for model, (items, described) in listing.items():
        item = model.natural_key[0]
        listed = _listed(facts, model, action)
        inserted = [translated(row) for row in items]
        result.rows[model] = [row for row in result.rows.get(model, ()) if row not in listed] + inserted
        replaced, names = {row[item] for row in listed}, {row[item] for row in inserted}
        for child, column in DESCRIBED_BY.items():
            _keep(result, child, replaced - names)
            taken = {row[column] for row in result.rows[child]} | replaced
            candidates = map(translated, described.get(child, ()))
            result.rows[child] += [row for row in candidates if row[column] not in taken]
    return result
