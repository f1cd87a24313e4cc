"""From the declaration of a resource type to the steps that collect it and the facts that it becomes."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import jmespath

from crawler.key_references import Reference, read, read_default
from crawler.spec import KeyPath, Operation, ResourceType, Scope, Step, Subject
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.iam import ResourcePolicy
from models.tables.keys import Tag
from models.tables.resources import Form, KeyClass, KeyReference, Resource
from models.tables.runs import Cause, Gap

EXCLUDED_REGION = "the configuration excludes the bucket's region"
POLICIES_LEFT_OUT = "the configuration leaves resource policies out (crawl.secret_policies)"
TO_BE_DELETED = "nobody can use what is about to be deleted"


@cache
def resource_step(kind: ResourceType) -> Step:
    """The steps of a resource type: its listing, then what has to be asked of each item."""
    children: list[Step] = []
    if kind.detail is not None:
        children.append(
            Step(
                kind.detail,
                partial(_detailed, kind),
                skip_reason=_excluded,
                on_skip=partial(_not_asked, kind.detail),
            )
        )
    if kind.tags_operation is not None:
        on_skip = partial(_not_asked, kind.tags_operation)
        children.append(Step(kind.tags_operation, _tag, _tags_complete, skip_reason=_excluded, on_skip=on_skip))
    if kind.policy_operation is not None:
        on_skip = partial(_no_policy, kind.policy_operation)
        children.append(
            Step(kind.policy_operation, partial(_policy, kind), skip_reason=_policy_left_out, on_skip=on_skip)
        )
    return Step(kind.listing, partial(listed, kind), partial(listing_complete, kind), children=tuple(children))


def listed(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject:
    """Record one item of a type's listing; the subject for what is asked of it further."""
    scope = subject.scope
    region = scope.region if kind.regional else _text(kind.region, item)
    if region is None:
        raise ValueError(f"{kind.name} {_text(kind.title, item)!r} does not tell its region")
    place = Scope(scope.account_id, region, scope.partition)
    arn = _text(kind.arn, item) or ""
    for name, value in (("partition", scope.partition), ("region", region), ("account", scope.account_id)):
        arn = arn.replace(f"{{{name}}}", value)
    title = (_text(kind.title, item) or "") if kind.title else re.split("[:/]", arn)[-1]
    if not arn.startswith("arn:"):
        raise ValueError(f"{kind.name} {title!r} has no ARN")
    found = Subject(
        scope,
        region,
        arn,
        {"arn": arn, "title": title, "account_id": scope.account_id, "place": place, "item": item},
    )
    excludes = subject.values.get("excludes_region")
    if excludes is not None and excludes(region):
        found.values["excluded"] = EXCLUDED_REGION
    if not subject.values.get("resource_policies", True):
        found.values["no_policy"] = POLICIES_LEFT_OUT
    elif _time(kind.deletion, item) is not None:
        found.values["no_policy"] = TO_BE_DELETED
    _resource(kind, found, batch)
    if kind.detail is None:
        _refer(kind, found, item, batch)
    if kind.tags:
        for tag in _search(kind.tags, item) or ():
            batch.add(Tag, resource_arn=arn, tag_key=tag["Key"], tag_value=tag.get("Value") or "")
        batch.mark_complete(Tag, arn)
    return found


def _detailed(kind: ResourceType, subject: Subject, answer: Mapping[str, Any], batch: Batch) -> Subject | None:
    _refer(kind, subject, answer, batch)
    return None


def _policy(kind: ResourceType, subject: Subject, answer: Mapping[str, Any], batch: Batch) -> Subject | None:
    received = _text(kind.policy, answer)
    batch.add(ResourcePolicy, resource_arn=subject.arn, policy_hash=batch.document(received) if received else None)
    return None


def _no_policy(operation: Operation, subject: Subject, reason: str, batch: Batch) -> None:
    if reason != TO_BE_DELETED:
        cause = Cause.DISABLED_BY_CONFIG if reason == POLICIES_LEFT_OUT else Cause.REGION_EXCLUDED
        _not_asked(operation, subject, reason, batch, cause)


def _not_asked(
    operation: Operation, subject: Subject, reason: str, batch: Batch, cause: Cause = Cause.REGION_EXCLUDED
) -> None:
    """As configured, so no failure of the run; but what was known before is neither confirmed nor ended by it."""
    batch.add(
        Gap,
        account_id=subject.scope.account_id,
        region=subject.scope.region,
        service=operation.service,
        operation=operation.name,
        subject=subject.arn,
        action=operation.iam_action,
        cause=str(cause),
        code="",
        message=reason,
    )


def _refer(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    for path in kind.keys:
        for position, reference in enumerate(references_of(path, item, subject.values["place"])):
            _reference(subject.arn, path, position, reference, batch, _shown(path, item))
    batch.mark_complete(KeyReference, subject.arn)


def _resource(kind: ResourceType, subject: Subject, batch: Batch) -> None:
    """From the listing alone: what a further question tells has a row of its own, so that a gap in it changes nothing here."""
    scope, place, item = subject.scope, subject.values["place"], subject.values["item"]
    told = {name: found for name, path in kind.details.items() if (found := _search(path, item)) is not None}
    details = {**kind.missing_values, **told}
    details |= {
        name: _monday(found) for name in kind.truncate_to_week if isinstance(found := details.get(name), dt.datetime)
    }
    encryption = _text(kind.encryption, item) if kind.encryption else None
    batch.add(
        Resource,
        resource_arn=subject.arn,
        resource_type=kind.type_by_engine.get(str(item.get("Engine")), kind.name),
        account_id=scope.account_id,
        region=place.region,
        listing_region=scope.region,
        name=subject.values["title"],
        status=_text(kind.status, item) if kind.status else None,
        encryption=None if encryption == "null" else encryption,
        created_at=_time(kind.created, item),
        deletion_at=_time(kind.deletion, item),
        details=canonical_json(details) if details else None,
    )


def references_of(path: KeyPath, item: Mapping[str, Any], place: Scope) -> list[Reference]:
    """What an item says of one of its keys; several references where the path leads to a list."""
    found = _search(path.path, item)
    values = [value for value in (found if isinstance(found, list) else [found]) if value not in {None, ""}]
    if values:
        return [read(value, place) for value in values]
    shown = _shown(path, item) or ""
    if shown not in path.when_missing:
        said = f"the service says {shown!r} and names no key" if path.discriminator else "the service names no key"
        return [Reference(Form.OMITTED, declared_class=KeyClass.UNKNOWN, reason=said)]
    default = read_default(path.when_missing[shown], place)
    return [] if default is None else [default]


def _shown(path: KeyPath, item: Mapping[str, Any]) -> str | None:
    return (_text(path.discriminator, item) or "null") if path.discriminator else None


def _reference(  # noqa: PLR0917 - one fact, spelled out
    arn: str, path: KeyPath, position: int, reference: Reference, batch: Batch, shown: str | None
) -> None:
    batch.add(
        KeyReference,
        resource_arn=arn,
        role=path.role,
        position=position,
        format=str(reference.form),
        encryption=None if shown == "null" else shown,
        raw_value=reference.raw,
        target_arn=reference.target_arn,
        target_account=reference.target_account,
        target_region=reference.target_region,
        declared_class=str(reference.declared_class) if reference.declared_class else None,
        reason=reference.reason,
    )


def _tag(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject | None:
    if item:
        batch.add(Tag, resource_arn=subject.arn, tag_key=item["Key"], tag_value=item.get("Value") or "")
    return None


def _tags_complete(subject: Subject, batch: Batch) -> None:
    batch.mark_complete(Tag, subject.arn)


def listing_complete(kind: ResourceType, subject: Subject, batch: Batch) -> None:
    """State that a type's listing arrived whole."""
    listing_region = subject.scope.region
    for name in {kind.name, *kind.type_by_engine.values()}:
        batch.mark_complete(Resource, subject.scope.account_id, listing_region, name)


def _excluded(subject: Subject) -> str | None:
    found: str | None = subject.values.get("excluded")
    return found


def _policy_left_out(subject: Subject) -> str | None:
    found: str | None = subject.values.get("no_policy")
    return found or _excluded(subject)


def _search(path: str, item: Mapping[str, Any]) -> Any:
    # Most paths are the name of a member.
    return item.get(path) if path.isidentifier() else _compiled(path).search(item)


@cache
def _compiled(path: str) -> Any:
    return jmespath.compile(path)


def _text(path: str, item: Mapping[str, Any]) -> str | None:
    found = _search(path, item)
    return None if found is None else str(found)


def _monday(time: dt.datetime) -> str:
    day = time.astimezone(dt.UTC).date()
    return (day - dt.timedelta(days=day.weekday())).isoformat()


def _time(path: str, item: Mapping[str, Any]) -> dt.datetime | None:
    found = _search(path, item) if path else None
    return found if isinstance(found, dt.datetime) else None
