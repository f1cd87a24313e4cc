"""Maps the declaration of a resource type to the steps that collect it and the facts that they record."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from crawler.aws.errors import AwsError, gap_row
from crawler.aws.response_validation import REGION, check_arn, check_identifier
from crawler.key_references import Reference, default_reference, parse_reference
from crawler.spec import KeyPath, Operation, ResourceType, Scope, Step, Subject, search
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.iam import ResourcePolicy
from models.tables.keys import Tag
from models.tables.resources import Form, KeyClass, KeyReference, Resource, ResourceReplica
from models.tables.runs import Cause, Gap
from models.versioned import VersionedTable

EXCLUDED_REGION = "the configuration excludes the bucket's region"
POLICIES_DISABLED = "the configuration disables resource policies (crawl.secret_policies)"
PENDING_DELETION = "a resource that is scheduled for deletion cannot be used"
NO_REPLICAS = "only a primary has replicas"
SKIP_CAUSES = {EXCLUDED_REGION: Cause.REGION_EXCLUDED, POLICIES_DISABLED: Cause.DISABLED_BY_CONFIG}
"""The causes of gaps by the reason of a skip; the other reasons leave no gap."""

Record = Callable[[Subject, Mapping[str, Any], Batch], Subject | None]
Tables = tuple[type[VersionedTable], ...]
SkipReason = Callable[[Subject], str | None]


@cache
def resource_step(kind: ResourceType) -> Step:
    """Return the steps of a resource type: its listing, and the calls for each item."""
    children: list[Step] = []

    def add(
        operation: Operation | None,
        record: Record,
        lists: Tables = (),
        skip: SkipReason = _region_excluded,
        identity: str = "",
    ) -> None:
        if operation is not None:
            on_skip = partial(_record_skip, operation)
            children.append(Step(operation, record, lists, identity, skip_reason=skip, on_skip=on_skip))

    add(kind.detail, partial(_record_key_references, kind))
    add(kind.tags_operation, partial(_record_tag, kind), (Tag,), identity="Key")
    add(kind.policy_operation, partial(_record_policy, kind), skip=_policy_disabled)
    add(kind.replicas_operation, partial(_record_replicas, kind), (ResourceReplica,), skip=partial(_no_replicas, kind))
    return Step(
        kind.listing,
        partial(record_item, kind),
        identity=kind.arn,
        complete=partial(listing_complete, kind),
        keep=partial(_keep, kind),
        children=tuple(children),
    )


def record_item(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject:
    """Record one listed item and return the subject of its child steps."""
    scope = subject.scope
    region = scope.region if kind.regional else _text(kind.region, item)
    if region is None:
        raise KeyError(kind.region)
    if not REGION.fullmatch(region):
        raise ValueError(f"{kind.region} is {region[:100]!r}")
    resource_scope = Scope(scope.account_id, region, scope.partition)
    arn = _arn(kind, scope, item)
    title = _text(kind.title, item) if kind.title else re.split("[:/]", arn)[-1]
    if not title or (kind.type_by_engine and not item.get("Engine")):
        raise ValueError(f"{arn} lacks its {'engine' if title else 'name'}")
    child = Subject(
        scope,
        region,
        arn,
        {"arn": arn, "title": title, "account_id": scope.account_id, "resource_scope": resource_scope, "item": item},
    )
    excludes = subject.values.get("excludes_region")
    if excludes is not None and excludes(region):
        child.values["excluded"] = EXCLUDED_REGION
    if not subject.values.get("resource_policies", True):
        child.values["skip_policy_reason"] = POLICIES_DISABLED
    elif _time(kind.deletion, item) is not None:
        child.values["skip_policy_reason"] = PENDING_DELETION
    _add_resource(kind, child, batch)
    if kind.detail is None:
        _record_key_references(kind, child, item, batch)
    if kind.tags:
        add_tags(kind.listing, arn, search(kind.tags, item) or (), batch)
    return child


def _arn(kind: ResourceType, scope: Scope, item: Mapping[str, Any]) -> str:
    places = {
        "partition": scope.partition,
        "service": kind.listing.service,
        "region": scope.region,
        "account": scope.account_id,
    }
    arn, prefix = _text(kind.arn, item) or "", kind.arn_prefix
    for name, value in places.items():
        arn, prefix = arn.replace(f"{{{name}}}", value), prefix.replace(f"{{{name}}}", value)
    return check_arn(kind.listing, arn, prefix)


def _keep(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> str:
    """Record that a listed resource exists; returns its ARN."""
    arn = _arn(kind, subject.scope, item)
    batch.keep(Resource, arn)
    return arn


def _record_policy(kind: ResourceType, subject: Subject, response: Mapping[str, Any], batch: Batch) -> None:
    policy = _text(kind.policy, response)
    batch.add(ResourcePolicy, resource_arn=subject.arn, policy_hash=batch.document(policy) if policy else None)


def _record_replicas(kind: ResourceType, subject: Subject, response: Mapping[str, Any], batch: Batch) -> None:
    for replica in search(kind.replicas, response) or ():
        batch.add(
            ResourceReplica,
            resource_arn=subject.arn,
            replica_region=replica["Region"],
            status=replica.get("Status"),
            status_message=replica.get("StatusMessage"),
            raw_key=replica.get("KmsKeyId"),
        )


def _record_skip(operation: Operation, subject: Subject, reason: str, batch: Batch) -> None:
    """Record a configured skip as a gap that does not fail the run; earlier facts stay open, unconfirmed."""
    if reason == NO_REPLICAS:
        batch.mark_complete(ResourceReplica, subject.arn)
    if reason in SKIP_CAUSES:
        scope = subject.scope
        error = AwsError(SKIP_CAUSES[reason], "", reason)
        batch.add(Gap, **gap_row(scope.account_id, scope.region, operation, subject.arn, error))


def _record_key_references(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    for path in kind.keys:
        discriminator = _discriminator_value(path, item)
        for position, reference in enumerate(references_of(path, item, subject.values["resource_scope"])):
            batch.add(
                KeyReference,
                resource_arn=subject.arn,
                role=path.role,
                position=position,
                format=str(reference.form),
                encryption=None if discriminator == "null" else discriminator,
                raw_value=reference.raw,
                target_arn=reference.target_arn,
                target_account=reference.target_account,
                target_region=reference.target_region,
                declared_class=str(reference.declared_class) if reference.declared_class else None,
                reason=reference.reason,
            )
    batch.mark_complete(KeyReference, subject.arn)


def _add_resource(kind: ResourceType, subject: Subject, batch: Batch) -> None:
    """Add the resource from its listing alone: child steps have rows of their own, so a gap in them changes nothing here."""
    scope, resource_scope, item = subject.scope, subject.values["resource_scope"], subject.values["item"]
    present = {name: value for name, path in kind.details.items() if (value := search(path, item)) is not None}
    details = {**kind.missing_values, **present}
    details |= {
        name: _monday(value) for name in kind.truncate_to_week if isinstance(value := details.get(name), dt.datetime)
    }
    encryption = _text(kind.encryption, item) if kind.encryption else None
    batch.add(
        Resource,
        resource_arn=subject.arn,
        resource_type=kind.type_by_engine.get(str(item.get("Engine")), kind.name),
        account_id=scope.account_id,
        region=resource_scope.region,
        listing_region=scope.region,
        name=subject.values["title"],
        status=_text(kind.status, item) if kind.status else None,
        encryption=None if encryption == "null" else encryption,
        created_at=_time(kind.created, item),
        deletion_at=_time(kind.deletion, item),
        details=canonical_json(details) if details else None,
    )


def references_of(path: KeyPath, item: Mapping[str, Any], scope: Scope) -> list[Reference]:
    """Return the references of one key path; several if the path selects a list."""
    selected = search(path.path, item)
    values = [value for value in (selected if isinstance(selected, list) else [selected]) if value not in {None, ""}]
    if values:
        return [parse_reference(value, scope) for value in values]
    discriminator = _discriminator_value(path, item) or ""
    if discriminator not in path.when_missing:
        reason = (
            f"the service returned {discriminator!r} and no key"
            if path.discriminator and discriminator != "null"
            else "the service returned no key"
        )
        return [Reference(Form.OMITTED, declared_class=KeyClass.UNKNOWN, reason=reason)]
    default = default_reference(path.when_missing[discriminator], scope)
    return [] if default is None else [default]


def _discriminator_value(path: KeyPath, item: Mapping[str, Any]) -> str | None:
    return (_text(path.discriminator, item) or "null") if path.discriminator else None


def _record_tag(kind: ResourceType, subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    _add_tag(kind.tags_operation or kind.listing, subject.arn, item, batch)


def add_tags(operation: Operation, arn: str, tags: Sequence[Mapping[str, Any]], batch: Batch) -> None:
    """Add the tags of a resource, which its listing returned completely."""
    if len({tag["Key"] for tag in tags}) < len(tags):
        raise ValueError(f"a tag of {arn} is listed twice")
    for tag in tags:
        _add_tag(operation, arn, tag, batch)
    batch.mark_complete(Tag, arn)


def _add_tag(operation: Operation, arn: str, tag: Mapping[str, Any], batch: Batch) -> None:
    tag_key = check_identifier(operation, tag["Key"])
    batch.add(Tag, resource_arn=arn, tag_key=tag_key, tag_value=tag.get("Value") or "")


def listing_complete(kind: ResourceType, subject: Subject, batch: Batch) -> None:
    """Mark the listing of a type as complete."""
    listing_region = subject.scope.region
    for name in {kind.name, *kind.type_by_engine.values()}:
        batch.mark_complete(Resource, subject.scope.account_id, listing_region, name)


def _region_excluded(subject: Subject) -> str | None:
    reason: str | None = subject.values.get("excluded")
    return reason


def _policy_disabled(subject: Subject) -> str | None:
    reason: str | None = subject.values.get("skip_policy_reason")
    return reason or _region_excluded(subject)


def _no_replicas(kind: ResourceType, subject: Subject) -> str | None:
    return None if _text(kind.primary_region, subject.values["item"]) == subject.region else NO_REPLICAS


def _text(path: str, item: Mapping[str, Any]) -> str | None:
    value = search(path, item)
    return None if value is None else str(value)


def _monday(time: dt.datetime) -> str:
    day = time.astimezone(dt.UTC).date()
    return (day - dt.timedelta(days=day.weekday())).isoformat()


def _time(path: str, item: Mapping[str, Any]) -> dt.datetime | None:
    value = search(path, item) if path else None
    return value if isinstance(value, dt.datetime) else None
