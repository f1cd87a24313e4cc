"""Builds the facts of an example's items: keys, aliases, key stores, resources, trails and IAM, with defaults."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from models.aws_types import AWS_TYPES, TRAIL, AwsType, aws_type
from models.hashing import canonical_json
from models.tables import (
    Alias,
    CustomKeyStore,
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
    KeyMetadata,
    KeyPolicy,
    KeyReference,
    KeyRotation,
    KeyRotationEvent,
    Resource,
    ResourcePolicy,
    ShadowTrail,
    Tag,
    Trail,
    TrailSelector,
    TrailStatus,
)
from reports.rules.loader import RuleError
from reports.rules.testing.fixture import HOME, OUTSIDE, POLICY, Facts, account_of
from reports.rules.testing.loader import Lined

CREATED = "2024-01-15T09:30:00"
_KEY_ONLY = {"id", "region", "account", "aliases", "grants", "rotations", "last_use", "tags", "policy", "rotation"}
_ROTATION_COLUMNS = {"rotation_reason": "reason", "rotation_period_days": "period_days"} | {
    name: name for name in ("next_rotation_at", "on_demand_started_at")
}
_RESOURCE_ONLY = {"id", "account", "tags", "policy", "type", *(_KEY_USE := ("key", "class", "role")), "uses"}
_TRAIL_ONLY = {"id", "account", "status", "selectors", "seen_in"}
_PRINCIPAL_ONLY = {"id", "name", "account", "policies", "attached", "boundary", "trust", "groups", "tags"}


def arns(facts: Facts, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ID and ARN of every item that has an ID."""
    yield "account_region", f"{facts.own}/{HOME}"
    for key in spec.get("keys") or ():
        arn = f"arn:aws:kms:{_region(key)}:{account_of(facts, key)}:key/{_text_of(facts, key, 'id')}"
        yield key["id"], arn
        for grant in key.get("grants") or ():
            yield grant["id"], f"{arn}/grant/{grant['id']}"
    for alias in spec.get("aliases") or ():
        if alias.get("id"):
            yield alias["id"], f"arn:aws:kms:{_region(alias)}:{account_of(facts, alias)}:{alias.get('name')}"
    for store in spec.get("stores") or ():
        yield str(store.get("id")), f"{account_of(facts, store)}/{_region(store)}/{store.get('id')}"
    for resource in spec.get("resources") or ():
        resource_type, account = _type_of(facts, resource), account_of(facts, resource)
        name = resource.get("name", resource.get("id"))
        where = "::" if resource_type.is_global else f"{_region(resource)}:{account}:"
        suffix = resource_type.arn.format(account=account, name=name)
        yield _text_of(facts, resource, "id"), f"arn:aws:{resource_type.service}:{where}{suffix}"
    for trail in spec.get("trails") or ():
        name = trail.get("name", trail.get("id"))
        yield (
            _text_of(facts, trail, "id"),
            f"arn:aws:cloudtrail:{_region(trail)}:{account_of(facts, trail)}:trail/{name}",
        )
    for section, kind in (("users", "user"), ("roles", "role"), ("groups", "group"), ("managed_policies", "policy")):
        for entity in spec.get(section) or ():
            arn = f"arn:aws:iam::{account_of(facts, entity)}:{kind}/{entity.get('name', entity.get('id'))}"
            yield str(entity.get("id") or entity.get("name")), str(entity.get("arn") or arn)


def add_items(facts: Facts, spec: Mapping[str, Any]) -> None:
    """Add the facts of all items of a run."""
    for key in spec.get("keys") or ():
        _key(facts, key)
    for alias in spec.get("aliases") or ():
        _alias(facts, alias)
    for store in spec.get("stores") or ():
        where = {"account_id": account_of(facts, store), "region": _region(store), "store_id": store.get("id")}
        defaults = {"name": "store", "store_type": "AWS_CLOUDHSM", "connection_state": "CONNECTED"}
        facts.add(CustomKeyStore, _without(store, {"id", "account", "region"}), **where, **defaults)
    for resource in spec.get("resources") or ():
        _resource(facts, resource)
    for trail in spec.get("trails") or ():
        _trail(facts, trail)
    _iam(facts, spec)


def root_statement(account: str) -> dict[str, Any]:
    """The statement of the default key policy, which delegates to the account's IAM policies."""
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    return {"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}


def document(facts: Facts, stated: Any) -> str:
    """The text of a policy, from a list of statements or unchanged from a text."""
    text = facts.text(stated)
    return text if isinstance(text, str) else canonical_json({"Version": "2012-10-17", "Statement": text})


def _key(facts: Facts, stated: Lined) -> None:
    arn, account, region = facts.names[stated["id"]], account_of(facts, stated), _region(stated)
    is_aws_managed = stated.get("manager") == "AWS"
    spec, origin = stated.get("key_spec", "SYMMETRIC_DEFAULT"), stated.get("origin", "AWS_KMS")
    facts.add(Key, {}, key_arn=arn, key_id=stated["id"], account_id=account, region=region)
    facts.add(
        KeyMetadata,
        _without(stated, {*_KEY_ONLY, *_ROTATION_COLUMNS}),
        key_arn=arn,
        manager="CUSTOMER",
        state="Enabled",
        enabled=stated.get("state", "Enabled") == "Enabled",
        description="",
        key_usage="ENCRYPT_DECRYPT",
        key_spec="SYMMETRIC_DEFAULT",
        origin="AWS_KMS",
        created_at=CREATED,
        multi_region=False,
        algorithms={"EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"]} if spec == "SYMMETRIC_DEFAULT" else None,
    )
    not_applicable_reason = "an AWS managed key: AWS rotates it every year" if is_aws_managed else None
    if spec != "SYMMETRIC_DEFAULT":
        not_applicable_reason = f"key spec {spec} cannot rotate"
    elif origin not in {"AWS_KMS", "EXTERNAL"}:
        not_applicable_reason = f"a key of origin {origin} cannot rotate"
    rotation = stated.get(
        "rotation", "not_applicable" if not_applicable_reason else "disabled" if origin == "EXTERNAL" else "enabled"
    )
    if rotation not in {"unknown", None}:
        rotation_details = {column: stated[name] for name, column in _ROTATION_COLUMNS.items() if name in stated}
        period = 365 if rotation == "enabled" else None
        facts.add(
            KeyRotation,
            rotation_details,
            key_arn=arn,
            status=rotation,
            reason=not_applicable_reason,
            period_days=period,
        )
    policy = stated.get("policy", None if is_aws_managed else "default")
    if policy is not None:
        text = document(facts, [root_statement(account)] if policy == "default" else policy)
        facts.add(KeyPolicy, {}, key_arn=arn, policy=text)
    for name in stated.get("aliases") or ():
        _add_alias(facts, name, (account, region), arn)
    for grant in stated.get("grants") or ():
        facts.add(
            KeyGrant,
            _without(grant, {"id"}),
            key_arn=arn,
            grant_id=grant["id"],
            operations=["Decrypt", "GenerateDataKey"],
            created_at="2025-03-01T12:00:00",
            issuing_account=f"arn:aws:iam::{account}:root",
        )
    for event in stated.get("rotations") or ():
        facts.add(KeyRotationEvent, event, key_arn=arn, rotation_type="AUTOMATIC")
    _tags(facts, arn, stated.get("tags"))
    last_use = stated.get("last_use")
    if last_use:
        created = stated.get("created_at", CREATED)
        usage = {} if last_use.get("never") else last_use
        facts.add(KeyLastUse, usage, key_arn=arn, tracking_started_at=created, key_created_at=created)


def _alias(facts: Facts, stated: Lined) -> None:
    name, account, region = str(stated.get("name")), account_of(facts, stated), _region(stated)
    key = stated.get("key")
    more = _without(stated, {"id", "name", "account", "region", "key"})
    _add_alias(facts, name, (account, region), facts.names.get(str(key), facts.text(key)) if key else None, more)


def _add_alias(
    facts: Facts, name: str, account_region: tuple[str, str], key_arn: str | None, stated: Any = None
) -> None:
    account, region = account_region
    facts.add(
        Alias,
        stated or {},
        alias_arn=f"arn:aws:kms:{region}:{account}:{name}",
        alias_name=name,
        account_id=account,
        region=region,
        target_key_id=key_arn.rpartition("/")[2] if key_arn else None,
        target_key_arn=key_arn,
        created_at=CREATED,
    )


def _resource(facts: Facts, stated: Lined) -> None:
    resource_type, arn = _type_of(facts, stated), facts.names[stated["id"]]
    listing_region = "global" if resource_type.is_global else _region(stated)
    facts.add(
        Resource,
        _without(stated, _RESOURCE_ONLY),
        resource_arn=arn,
        resource_type=stated["type"],
        account_id=account_of(facts, stated),
        region=_region(stated),
        listing_region=listing_region,
        name=stated["id"],
        status=None if resource_type.key_role != "storage" else "available",
        created_at=CREATED,
    )
    uses = [_only(stated, _KEY_USE)] if any(name in stated for name in _KEY_USE) else []
    for position, use in enumerate([*uses, *(stated.get("uses") or ())]):
        _reference(facts, resource_type, stated, use, position)
    _tags(facts, arn, stated.get("tags"))
    if resource_type.policy or "policy" in stated:
        policy = stated.get("policy")
        facts.add(ResourcePolicy, {}, resource_arn=arn, policy=None if policy is None else document(facts, policy))


def _reference(facts: Facts, resource_type: AwsType, resource: Lined, use: Lined, position: int) -> None:
    """Add the reference of a resource to its key; the ledger writer resolves it by the keys and aliases of the run."""
    arn, account, region = facts.names[resource["id"]], account_of(facts, resource), _region(resource)
    key, key_class = use.get("key"), use.get("class")
    scope_arn = f"arn:aws:kms:{region}:{account}"
    raw: str | None = None
    target: str | None = None
    key_format = "omitted"
    if key:
        raw = facts.names.get(str(key), facts.text(key))
        key_format = "alias_name" if raw.startswith("alias/") else "alias_arn" if ":alias/" in raw else "key_arn"
        target = f"{scope_arn}:{raw}" if key_format == "alias_name" else raw
    elif key_class == "aws_managed":
        target = f"{scope_arn}:{resource_type.default_key_alias or f'alias/aws/{resource_type.service}'}"
    elif key_class in {"dangling", "not_crawled"}:
        owner = account if key_class == "dangling" else OUTSIDE
        raw = target = f"arn:aws:kms:{region}:{owner}:key/gone"
        key_format = "key_arn"
    elif key_class not in {"none", "aws_owned", "unknown"}:
        raise RuleError(f"{facts.source}:{use.line}: expected a key, or a class that needs no key, found {key_class!r}")
    facts.add(
        KeyReference,
        _without(use, {"key", "class"}),
        resource_arn=arn,
        role=resource_type.key_role,
        position=position,
        format=key_format,
        raw_value=raw,
        target_arn=target,
        target_account=target.split(":")[4] if target else None,
        target_region=target.split(":")[3] if target else None,
        declared_class=None if target else key_class,
        reason="the service names no key" if key_class == "unknown" else None,
    )


def _trail(facts: Facts, stated: Lined) -> None:
    arn, account, region = facts.names[stated["id"]], account_of(facts, stated), _region(stated)
    key = stated.get("kms_key")
    key_arn = facts.names.get(str(key), facts.text(key)) if key else None
    own = {"name": stated["id"], "home_region": region, "is_multi_region": True, "is_organization": False}
    own |= {"log_validation": True, "has_custom_selectors": "selectors" in stated, "bucket": "logs", "kms_key": key_arn}
    columns = _without(stated, {*_TRAIL_ONLY, "region", "kms_key"})
    facts.add(Trail, columns, trail_arn=arn, account_id=account, region=region, global_events=True, **own)
    shadow = _without(columns, {"global_events", "log_group"})
    for shadow_scope in stated.get("seen_in") or ():
        where = {"account_id": account_of(facts, shadow_scope), "region": _region(shadow_scope)}
        facts.add(ShadowTrail, shadow, trail_arn=arn, **where, **own)
    if stated.get("status", {}) is not None:
        facts.add(TrailStatus, stated.get("status") or {}, trail_arn=arn, logging=True)
    default = {"ReadWriteType": "All", "IncludeManagementEvents": True, "ExcludeManagementEventSources": []}
    selectors = stated.get("selectors", {"EventSelectors": [default], "AdvancedEventSelectors": []})
    if selectors is not None:
        facts.add(TrailSelector, {}, trail_arn=arn, selectors=selectors)
    scope = {"account_id": account, "region": region, "listing_region": region, "name": own["name"]}
    facts.add(Resource, {}, resource_arn=arn, resource_type=TRAIL, **scope)
    use = Lined(stated.line)
    use.update({"key": key_arn} if key_arn else {"class": "aws_owned"})
    _reference(facts, aws_type(TRAIL), stated, use, 0)


def _iam(facts: Facts, spec: Mapping[str, Any]) -> None:
    """Add IAM, which counts as read if the example states any of its sections, even an empty entity."""
    sections = ("users", "roles", "groups", "managed_policies")
    if not any(section in spec for section in sections):
        return
    for account in (facts.own, facts.other):
        facts.add(IamScan, {}, account_id=account)
    for section in ("users", "roles", "groups"):
        for entity in spec.get(section) or ():
            arn = facts.names[entity.get("id") or entity["name"]]
            account, name = account_of(facts, entity), entity.get("name", entity.get("id"))
            more = _without(entity, _PRINCIPAL_ONLY)
            if section == "groups":
                facts.add(IamGroup, more, arn=arn, account_id=account, name=name, path="/")
            else:
                trust = document(facts, entity["trust"]) if entity.get("trust") else None
                boundary = facts.names.get(str(entity.get("boundary")), facts.text(entity.get("boundary")))
                own = {"arn": arn, "account_id": account, "type": section[:-1], "name": name, "path": "/"}
                unique = ("AIDA" if section == "users" else "AROA") + account
                own |= {"permissions_boundary_arn": boundary, "unique_id": unique + str(name).upper()}
                facts.add(IamPrincipal, more, **own, policy=trust, created_at=CREATED)
            for policy, statements in (entity.get("policies") or {}).items():
                facts.add(
                    IamInlinePolicy,
                    {},
                    owner_arn=arn,
                    name=policy,
                    account_id=account,
                    policy=document(facts, statements),
                )
            for attached in entity.get("attached") or ():
                policy_arn = facts.names.get(str(attached), facts.text(attached))
                facts.add(IamAttachment, {}, owner_arn=arn, policy_arn=policy_arn, account_id=account)
            for group in entity.get("groups") or ():
                facts.add(IamMembership, {}, user_arn=arn, group_name=group, account_id=account)
            _tags(facts, arn, entity.get("tags"))
    for entity in spec.get("managed_policies") or ():
        arn = facts.names[entity.get("id") or entity["name"]]
        text = document(facts, entity.get("statements") or [])
        more = _without(entity, {"id", "name", "arn", "account", "statements"})
        own = {"policy_arn": arn, "account_id": "aws" if ":aws:policy/" in arn else account_of(facts, entity)}
        facts.add(
            IamManagedPolicy,
            more,
            **own,
            name=entity.get("name", entity.get("id")),
            default_version="v1",
            **{POLICY: text},
        )


def _tags(facts: Facts, arn: str, tags: Mapping[str, Any] | None) -> None:
    for name, value in (tags or {}).items():
        facts.add(Tag, {}, resource_arn=arn, tag_key=facts.text(name), tag_value=facts.text(str(value)))


def _region(stated: Mapping[str, Any]) -> str:
    return str(stated.get("region", HOME))


def _type_of(facts: Facts, stated: Lined) -> AwsType:
    name = str(stated.get("type", ""))
    try:
        resource_type = aws_type(name)
    except ValueError as error:
        raise RuleError(f"{facts.source}:{stated.line}: {error}") from error
    if name not in AWS_TYPES and (near := difflib.get_close_matches(name, AWS_TYPES, n=1, cutoff=0.95)):
        raise RuleError(f"{facts.source}:{stated.line}: no resource type is named {name!r}: did you mean {near[0]}?")
    return resource_type


def _text_of(facts: Facts, stated: Lined, name: str) -> str:
    if not isinstance(stated.get(name), str):
        raise RuleError(f"{facts.source}:{stated.line}: expected a text for {name!r}")
    return str(stated[name])


def _without(stated: Lined, names: set[str]) -> Lined:
    return _only(stated, [name for name in stated if name not in names])


def _only(stated: Lined, names: Any) -> Lined:
    result = Lined(getattr(stated, "line", 0))
    for name in names:
        if name in stated:
            result[name], result.lines[name] = stated[name], stated.lines.get(name, stated.line)
    return result
