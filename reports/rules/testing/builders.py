"""The things of an example: keys, aliases, key stores, resources, trails and IAM, with the defaults that examples leave out."""

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
_OF_KEY = {"id", "region", "account", "aliases", "grants", "rotations", "last_use", "tags", "policy", "rotation"}
_OF_ROTATION = {"rotation_reason": "reason", "rotation_period_days": "period_days"} | {
    name: name for name in ("next_rotation_at", "on_demand_started_at")
}
_OF_RESOURCE = {"id", "account", "tags", "policy", "type", *(_ONE := ("key", "class", "role")), "uses"}
_OF_TRAIL = {"id", "account", "status", "selectors", "seen_in"}
_OF_PRINCIPAL = {"id", "name", "account", "policies", "attached", "boundary", "trust", "groups", "tags"}


def arns(facts: Facts, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The ARNs of everything that has an id, by that id."""
    yield "place", f"{facts.own}/{HOME}"
    for key in spec.get("keys") or ():
        arn = f"arn:aws:kms:{_region(key)}:{account_of(facts, key)}:key/{_named(facts, key, 'id')}"
        yield key["id"], arn
        for grant in key.get("grants") or ():
            yield grant["id"], f"{arn}/grant/{grant['id']}"
    for alias in spec.get("aliases") or ():
        if alias.get("id"):
            yield alias["id"], f"arn:aws:kms:{_region(alias)}:{account_of(facts, alias)}:{alias.get('name')}"
    for store in spec.get("stores") or ():
        yield str(store.get("id")), f"{account_of(facts, store)}/{_region(store)}/{store.get('id')}"
    for one in spec.get("resources") or ():
        found, account, name = _type_of(facts, one), account_of(facts, one), one.get("name", one.get("id"))
        where = "::" if found.is_global else f"{_region(one)}:{account}:"
        yield _named(facts, one, "id"), f"arn:aws:{found.service}:{where}{found.arn.format(account=account, name=name)}"
    for trail in spec.get("trails") or ():
        name = trail.get("name", trail.get("id"))
        yield (
            _named(facts, trail, "id"),
            f"arn:aws:cloudtrail:{_region(trail)}:{account_of(facts, trail)}:trail/{name}",
        )
    for section, kind in (("users", "user"), ("roles", "role"), ("groups", "group"), ("managed_policies", "policy")):
        for one in spec.get(section) or ():
            arn = f"arn:aws:iam::{account_of(facts, one)}:{kind}/{one.get('name', one.get('id'))}"
            yield str(one.get("id") or one.get("name")), str(one.get("arn") or arn)


def add_things(facts: Facts, spec: Mapping[str, Any]) -> None:
    """Add everything that a night states."""
    for key in spec.get("keys") or ():
        _key(facts, key)
    for alias in spec.get("aliases") or ():
        _alias(facts, alias)
    for store in spec.get("stores") or ():
        where = {"account_id": account_of(facts, store), "region": _region(store), "store_id": store.get("id")}
        defaults = {"name": "store", "store_type": "AWS_CLOUDHSM", "connection_state": "CONNECTED"}
        facts.add(CustomKeyStore, _without(store, {"id", "account", "region"}), **where, **defaults)
    for one in spec.get("resources") or ():
        _resource(facts, one)
    for trail in spec.get("trails") or ():
        _trail(facts, trail)
    _iam(facts, spec)


def root_statement(account: str) -> dict[str, Any]:
    """The statement of the default policy: the account's IAM policies decide."""
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    return {"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}


def document(facts: Facts, stated: Any) -> str:
    """A policy's text: from a list of statements, or as it stands."""
    text = facts.text(stated)
    return text if isinstance(text, str) else canonical_json({"Version": "2012-10-17", "Statement": text})


def _key(facts: Facts, stated: Lined) -> None:
    arn, account, region = facts.names[stated["id"]], account_of(facts, stated), _region(stated)
    aws = stated.get("manager") == "AWS"
    spec, origin = stated.get("key_spec", "SYMMETRIC_DEFAULT"), stated.get("origin", "AWS_KMS")
    facts.add(Key, {}, key_arn=arn, key_id=stated["id"], account_id=account, region=region)
    facts.add(
        KeyMetadata,
        _without(stated, {*_OF_KEY, *_OF_ROTATION}),
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
    cannot = "an AWS managed key: AWS rotates it every year" if aws else None
    if spec != "SYMMETRIC_DEFAULT":
        cannot = f"key spec {spec} cannot rotate"
    elif origin not in {"AWS_KMS", "EXTERNAL"}:
        cannot = f"a key of origin {origin} cannot rotate"
    rotation = stated.get("rotation", "not_applicable" if cannot else "disabled" if origin == "EXTERNAL" else "enabled")
    if rotation not in {"unknown", None}:
        said = {column: stated[name] for name, column in _OF_ROTATION.items() if name in stated}
        period = 365 if rotation == "enabled" else None
        facts.add(KeyRotation, said, key_arn=arn, status=rotation, reason=cannot, period_days=period)
    policy = stated.get("policy", None if aws else "default")
    if policy is not None:
        text = document(facts, [root_statement(account)] if policy == "default" else policy)
        facts.add(KeyPolicy, {}, key_arn=arn, policy=text)
    for name in stated.get("aliases") or ():
        _point(facts, name, (account, region), arn)
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
    used = stated.get("last_use")
    if used:
        born = stated.get("created_at", CREATED)
        told = {} if used.get("never") else used
        facts.add(KeyLastUse, told, key_arn=arn, tracking_started_at=born, key_created_at=born)


def _alias(facts: Facts, stated: Lined) -> None:
    name, account, region = str(stated.get("name")), account_of(facts, stated), _region(stated)
    key = stated.get("key")
    more = _without(stated, {"id", "name", "account", "region", "key"})
    _point(facts, name, (account, region), facts.names.get(str(key), facts.text(key)) if key else None, more)


def _point(facts: Facts, name: str, place: tuple[str, str], key_arn: str | None, stated: Any = None) -> None:
    account, region = place
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
    found, arn = _type_of(facts, stated), facts.names[stated["id"]]
    listing_region = "global" if found.is_global else _region(stated)
    facts.add(
        Resource,
        _without(stated, _OF_RESOURCE),
        resource_arn=arn,
        resource_type=stated["type"],
        account_id=account_of(facts, stated),
        region=_region(stated),
        listing_region=listing_region,
        name=stated["id"],
        status=None if found.key_role != "storage" else "available",
        created_at=CREATED,
    )
    uses = [_only(stated, _ONE)] if any(name in stated for name in _ONE) else []
    for position, use in enumerate([*uses, *(stated.get("uses") or ())]):
        _reference(facts, found, stated, use, position)
    _tags(facts, arn, stated.get("tags"))
    if found.policy or "policy" in stated:
        policy = stated.get("policy")
        facts.add(ResourcePolicy, {}, resource_arn=arn, policy=None if policy is None else document(facts, policy))


def _reference(facts: Facts, found: AwsType, resource: Lined, use: Lined, position: int) -> None:
    """How a resource names its key. Which key that is follows later, from the keys and aliases that are known."""
    arn, account, region = facts.names[resource["id"]], account_of(facts, resource), _region(resource)
    key, key_class = use.get("key"), use.get("class")
    here = f"arn:aws:kms:{region}:{account}"
    raw: str | None = None
    target: str | None = None
    form = "omitted"
    if key:
        raw = facts.names.get(str(key), facts.text(key))
        form = "alias_name" if raw.startswith("alias/") else "alias_arn" if ":alias/" in raw else "key_arn"
        target = f"{here}:{raw}" if form == "alias_name" else raw
    elif key_class == "aws_managed":
        target = f"{here}:{found.default_key_alias or f'alias/aws/{found.service}'}"
    elif key_class in {"dangling", "not_crawled"}:
        owner = account if key_class == "dangling" else OUTSIDE
        raw = target = f"arn:aws:kms:{region}:{owner}:key/gone"
        form = "key_arn"
    elif key_class not in {"none", "aws_owned", "unknown"}:
        raise RuleError(f"{facts.source}:{use.line}: expected a key, or a class that needs none, found {key_class!r}")
    facts.add(
        KeyReference,
        _without(use, {"key", "class"}),
        resource_arn=arn,
        role=found.key_role,
        position=position,
        format=form,
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
    described = _without(stated, {*_OF_TRAIL, "region", "kms_key"})
    facts.add(Trail, described, trail_arn=arn, account_id=account, region=region, global_events=True, **own)
    shadow = _without(described, {"global_events", "log_group"})
    for seen in stated.get("seen_in") or ():
        where = {"account_id": account_of(facts, seen), "region": _region(seen)}
        facts.add(ShadowTrail, shadow, trail_arn=arn, **where, **own)
    if stated.get("status", {}) is not None:
        facts.add(TrailStatus, stated.get("status") or {}, trail_arn=arn, logging=True)
    default = {"ReadWriteType": "All", "IncludeManagementEvents": True, "ExcludeManagementEventSources": []}
    selectors = stated.get("selectors", {"EventSelectors": [default], "AdvancedEventSelectors": []})
    if selectors is not None:
        facts.add(TrailSelector, {}, trail_arn=arn, selectors=selectors)
    place = {"account_id": account, "region": region, "listing_region": region, "name": own["name"]}
    facts.add(Resource, {}, resource_arn=arn, resource_type=TRAIL, **place)
    use = Lined(stated.line)
    use.update({"key": key_arn} if key_arn else {"class": "aws_owned"})
    _reference(facts, aws_type(TRAIL), stated, use, 0)


def _iam(facts: Facts, spec: Mapping[str, Any]) -> None:
    """IAM counts as read where an example states anything of it, if only an empty list."""
    sections = ("users", "roles", "groups", "managed_policies")
    if not any(section in spec for section in sections):
        return
    for account in (facts.own, facts.other):
        facts.add(IamScan, {}, account_id=account)
    for section in ("users", "roles", "groups"):
        for one in spec.get(section) or ():
            arn = facts.names[one.get("id") or one["name"]]
            account, name = account_of(facts, one), one.get("name", one.get("id"))
            more = _without(one, _OF_PRINCIPAL)
            if section == "groups":
                facts.add(IamGroup, more, arn=arn, account_id=account, name=name, path="/")
            else:
                trust = document(facts, one["trust"]) if one.get("trust") else None
                boundary = facts.names.get(str(one.get("boundary")), facts.text(one.get("boundary")))
                own = {"arn": arn, "account_id": account, "type": section[:-1], "name": name, "path": "/"}
                unique = ("AIDA" if section == "users" else "AROA") + account
                own |= {"permissions_boundary_arn": boundary, "unique_id": unique + str(name).upper()}
                facts.add(IamPrincipal, more, **own, policy=trust, created_at=CREATED)
            for policy, statements in (one.get("policies") or {}).items():
                facts.add(
                    IamInlinePolicy,
                    {},
                    owner_arn=arn,
                    name=policy,
                    account_id=account,
                    policy=document(facts, statements),
                )
            for attached in one.get("attached") or ():
                policy_arn = facts.names.get(str(attached), facts.text(attached))
                facts.add(IamAttachment, {}, owner_arn=arn, policy_arn=policy_arn, account_id=account)
            for group in one.get("groups") or ():
                facts.add(IamMembership, {}, user_arn=arn, group_name=group, account_id=account)
            _tags(facts, arn, one.get("tags"))
    for one in spec.get("managed_policies") or ():
        arn = facts.names[one.get("id") or one["name"]]
        text = document(facts, one.get("statements") or [])
        more = _without(one, {"id", "name", "arn", "account", "statements"})
        own = {"policy_arn": arn, "account_id": "aws" if ":aws:policy/" in arn else account_of(facts, one)}
        facts.add(
            IamManagedPolicy, more, **own, name=one.get("name", one.get("id")), default_version="v1", **{POLICY: text}
        )


def _tags(facts: Facts, arn: str, tags: Mapping[str, Any] | None) -> None:
    for name, value in (tags or {}).items():
        facts.add(Tag, {}, resource_arn=arn, tag_key=facts.text(name), tag_value=facts.text(str(value)))


def _region(stated: Mapping[str, Any]) -> str:
    return str(stated.get("region", HOME))


def _type_of(facts: Facts, stated: Lined) -> AwsType:
    name = str(stated.get("type", ""))
    try:
        found = aws_type(name)
    except ValueError as error:
        raise RuleError(f"{facts.source}:{stated.line}: {error}") from error
    if name not in AWS_TYPES and (near := difflib.get_close_matches(name, AWS_TYPES, n=1, cutoff=0.95)):
        raise RuleError(f"{facts.source}:{stated.line}: there is no type {name!r}: did you mean {near[0]}?")
    return found


def _named(facts: Facts, stated: Lined, name: str) -> str:
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
