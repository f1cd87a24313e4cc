"""Builds the facts of an example's items: keys, aliases, key stores, resources, trails and IAM, with defaults."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from models import tables
from models.aws_types import AWS_TYPES, TRAIL, AwsType, aws_type
from models.hashing import canonical_json
from reports.rules.loader import RuleError
from reports.rules.testing.fixture import CREATED, HOME, OUTSIDE, Facts, account_of, region_of
from reports.rules.yaml_files import Lined

_ARNS: Mapping[str, str] = {
    "keys": "arn:aws:kms:{region}:{account}:key/{id}",
    "aliases": "arn:aws:kms:{region}:{account}:{name}",
    "stores": "{account}/{region}/{id}",
    "resources": "",
    "trails": "arn:aws:cloudtrail:{region}:{account}:trail/{name}",
    "users": "arn:aws:iam::{account}:user/{name}",
    "roles": "arn:aws:iam::{account}:role/{name}",
    "groups": "arn:aws:iam::{account}:group/{name}",
    "managed_policies": "arn:aws:iam::{account}:policy/{name}",
}
"""The ARNs of items by section; the type of a resource has its own."""
_IAM = ("users", "roles", "groups", "managed_policies")
_UNIQUE_IDS = {"users": "AIDA", "roles": "AROA"}
_ROTATION_COLUMNS = {"rotation_reason": "reason", "rotation_period_days": "period_days"} | {
    name: name for name in ("next_rotation_at", "on_demand_started_at")
}
_PLACE = ("id", "account", "region")
_KEY_ONLY = (*_PLACE, "aliases", "grants", "rotations", "last_use", "tags", "policy", "rotation", *_ROTATION_COLUMNS)
_KEY_USE = ("key", "class", "role")
_RESOURCE_ONLY = ("id", "account", "tags", "policy", "replicas", "type", *_KEY_USE, "uses")
_TRAIL_ONLY = (*_PLACE, "kms_key", "status", "selectors", "seen_in")
_PRINCIPAL_ONLY = ("id", "name", "account", "policies", "attached", "boundary", "trust", "groups", "tags")


def arns(facts: Facts, spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the ID and ARN of every item that has an ID."""
    yield "account_region", f"{facts.own}/{HOME}"
    for section, template in _ARNS.items():
        for item in spec.get(section) or ():
            if section in {"keys", "resources", "trails"} and not isinstance(item.get("id"), str):
                raise RuleError(f"{facts.source}:{item.line}: expected a text for 'id'")
            values = {"region": region_of(item), "account": account_of(facts, item), "name": _name(item)}
            arn = (template or _resource_arn(_type_of(facts, item))).format(**values, id=item.get("id"))
            if section in _IAM:
                yield str(item.get("id") or item.get("name")), str(item.get("arn") or arn)
            elif section != "aliases" or item.get("id"):
                yield str(item.get("id")), arn
            for grant in (item.get("grants") or ()) if section == "keys" else ():
                yield grant["id"], f"{arn}/grant/{grant['id']}"


def add_items(facts: Facts, spec: Mapping[str, Any]) -> None:
    """Add the facts of all items of a run."""
    for key in spec.get("keys") or ():
        _key(facts, key)
    for alias in spec.get("aliases") or ():
        target = facts.arn(alias["key"]) if alias.get("key") else None
        _alias(facts, alias, str(alias.get("name")), target, _without(alias, (*_PLACE, "name", "key")))
    for store in spec.get("stores") or ():
        facts.add(tables.CustomKeyStore, _without(store, _PLACE), **_scope(facts, store), store_id=store.get("id"))
    for resource in spec.get("resources") or ():
        _resource(facts, resource)
    for trail in spec.get("trails") or ():
        _trail(facts, trail)
    if any(section in spec for section in _IAM):  # even an empty section means that IAM was read
        for account in (facts.own, facts.other):
            facts.add(tables.IamScan, {}, account_id=account)
    for section in _IAM:
        for entity in spec.get(section) or ():
            _entity(facts, section, entity)


def root_statement(account: str) -> dict[str, Any]:
    """The statement of the default key policy, which delegates to the account's IAM policies."""
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    return {"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}


def policy_text(statements: Any) -> str | None:
    """The text of a policy, from a list of statements or unchanged from a text."""
    if statements is None or isinstance(statements, str):
        return statements
    return canonical_json({"Version": "2012-10-17", "Statement": statements})


def rotation_reason(metadata: Mapping[str, Any]) -> str | None:
    """Why automatic rotation does not apply to a key, or None if it does."""
    if metadata["key_spec"] != "SYMMETRIC_DEFAULT":
        return f"key spec {metadata['key_spec']} cannot rotate"
    if metadata["origin"] not in {"AWS_KMS", "EXTERNAL"}:
        return f"a key of origin {metadata['origin']} cannot rotate"
    if metadata["multi_region_type"] == "REPLICA":
        return "a multi-Region replica: its rotation is set on its primary"
    return "an AWS managed key: AWS rotates it every year" if metadata["manager"] == "AWS" else None


def add_key(facts: Facts, stated: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """Add a key with its metadata; returns the metadata."""
    symmetric = stated.get("key_spec", "SYMMETRIC_DEFAULT") == "SYMMETRIC_DEFAULT"
    facts.add(tables.Key, {}, **values)
    return facts.add(
        tables.KeyMetadata,
        stated,
        key_arn=values["key_arn"],
        enabled=stated.get("state", "Enabled") == "Enabled",
        algorithms={"EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"]} if symmetric else None,
    )


def _key(facts: Facts, stated: Lined) -> None:
    arn, scope = facts.names[stated["id"]], _scope(facts, stated)
    metadata = add_key(facts, _without(stated, _KEY_ONLY), key_arn=arn, key_id=stated["id"], **scope)
    reason = rotation_reason(metadata)
    default = "not_applicable" if reason else "disabled" if metadata["origin"] == "EXTERNAL" else "enabled"
    rotation = stated.get("rotation", default)
    if rotation not in {"unknown", None}:
        details = {column: stated[name] for name, column in _ROTATION_COLUMNS.items() if name in stated}
        period = 365 if rotation == "enabled" else None
        facts.add(tables.KeyRotation, details, key_arn=arn, status=rotation, reason=reason, period_days=period)
    policy = stated.get("policy", None if metadata["manager"] == "AWS" else "default")
    if policy is not None:
        statements = [root_statement(scope["account_id"])] if policy == "default" else policy
        facts.add(tables.KeyPolicy, {}, key_arn=arn, policy=_document(facts, statements))
    for name in stated.get("aliases") or ():
        _alias(facts, stated, name, arn, {})
    for grant in stated.get("grants") or ():
        issuer = f"arn:aws:iam::{scope['account_id']}:root"
        grant_id = {"grant_id": grant["id"], "issuing_account": issuer}
        facts.add(tables.KeyGrant, _without(grant, ("id",)), key_arn=arn, **grant_id)
    for event in stated.get("rotations") or ():
        facts.add(tables.KeyRotationEvent, event, key_arn=arn)
    _tags(facts, arn, stated)
    if last_use := stated.get("last_use"):
        created = stated.get("created_at", CREATED)
        usage = {} if last_use.get("never") else last_use
        facts.add(tables.KeyLastUse, usage, key_arn=arn, tracking_started_at=created, key_created_at=created)


def _alias(facts: Facts, stated: Lined, name: str, key_arn: str | None, more: Mapping[str, Any]) -> None:
    scope = _scope(facts, stated)
    facts.add(
        tables.Alias,
        more,
        alias_arn=_ARNS["aliases"].format(account=scope["account_id"], region=scope["region"], name=name),
        alias_name=name,
        **scope,
        target_key_id=key_arn.rpartition("/")[2] if key_arn else None,
        target_key_arn=key_arn,
    )


def _resource(facts: Facts, stated: Lined) -> None:
    resource_type, arn, scope = _type_of(facts, stated), facts.names[stated["id"]], _scope(facts, stated)
    facts.add(
        tables.Resource,
        _without(stated, _RESOURCE_ONLY),
        resource_arn=arn,
        resource_type=stated["type"],
        **scope,
        listing_region="global" if resource_type.is_global else scope["region"],
        name=stated["id"],
        status=None if resource_type.key_role != "storage" else "available",
        created_at=CREATED,
    )
    uses = [_only(stated, _KEY_USE)] if any(name in stated for name in _KEY_USE) else []
    for position, use in enumerate([*uses, *(stated.get("uses") or ())]):
        _reference(facts, resource_type, stated, use, position)
    for replica in stated.get("replicas") or ():
        facts.add(tables.ResourceReplica, replica, resource_arn=arn)
    _tags(facts, arn, stated)
    if resource_type.policy or "policy" in stated:
        facts.add(tables.ResourcePolicy, {}, resource_arn=arn, policy=_document(facts, stated.get("policy")))


def _reference(facts: Facts, resource_type: AwsType, resource: Lined, use: Lined, position: int) -> None:
    """Add the reference of a resource to its key; the ledger writer resolves it by the keys and aliases of the run."""
    account, region = _scope(facts, resource).values()
    key, key_class = use.get("key"), use.get("class")
    scope_arn = f"arn:aws:kms:{region}:{account}"
    raw: str | None = None
    target: str | None = None
    key_format = "omitted"
    if key:
        raw = str(facts.arn(key))
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
        tables.KeyReference,
        _without(use, ("key", "class")),
        resource_arn=facts.names[resource["id"]],
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
    arn, scope = facts.names[stated["id"]], _scope(facts, stated)
    key_arn = facts.arn(stated["kms_key"]) if stated.get("kms_key") else None
    own = {"name": stated["id"], "home_region": scope["region"], "is_multi_region": True, "is_organization": False}
    own |= {"log_validation": True, "has_custom_selectors": "selectors" in stated, "bucket": "logs", "kms_key": key_arn}
    columns = _without(stated, _TRAIL_ONLY)
    facts.add(tables.Trail, columns, trail_arn=arn, **scope, **own)
    for seen_in in stated.get("seen_in") or ():
        shadow = _without(columns, ("global_events", "log_group"))
        facts.add(tables.ShadowTrail, shadow, trail_arn=arn, **_scope(facts, seen_in), **own)
    if stated.get("status", {}) is not None:
        facts.add(tables.TrailStatus, stated.get("status") or {}, trail_arn=arn)
    default = {"ReadWriteType": "All", "IncludeManagementEvents": True, "ExcludeManagementEventSources": []}
    selectors = stated.get("selectors", {"EventSelectors": [default], "AdvancedEventSelectors": []})
    if selectors is not None:
        facts.add(tables.TrailSelector, {}, trail_arn=arn, selectors=selectors)
    resource = {"resource_type": TRAIL, **scope, "listing_region": scope["region"], "name": stated["id"]}
    facts.add(tables.Resource, {}, resource_arn=arn, **resource)
    use = Lined(stated.line)
    use.update({"key": key_arn} if key_arn else {"class": "aws_owned"})
    _reference(facts, aws_type(TRAIL), stated, use, 0)


def _entity(facts: Facts, section: str, entity: Lined) -> None:
    """Add a user, role, group or managed policy."""
    arn = facts.names[entity.get("id") or entity["name"]]
    own = {"account_id": account_of(facts, entity), "name": _name(entity)}
    if section == "managed_policies":
        own |= {"policy": _document(facts, entity.get("statements") or [])}
        own |= {"account_id": "aws"} if ":aws:policy/" in arn else {}
        more = _without(entity, ("id", "name", "arn", "account", "statements"))
        facts.add(tables.IamManagedPolicy, more, policy_arn=arn, **own)
        return
    account = {"account_id": own["account_id"]}
    more = _without(entity, _PRINCIPAL_ONLY)
    if section == "groups":
        facts.add(tables.IamGroup, more, arn=arn, **own)
    else:
        facts.add(
            tables.IamPrincipal,
            more,
            arn=arn,
            type=section[:-1],
            **own,
            policy=_document(facts, entity.get("trust") or None),
            permissions_boundary_arn=facts.arn(entity.get("boundary")),
            unique_id=_UNIQUE_IDS[section] + own["account_id"] + str(own["name"]).upper(),
        )
    for name, statements in (entity.get("policies") or {}).items():
        policy = _document(facts, statements)
        facts.add(tables.IamInlinePolicy, {}, owner_arn=arn, name=name, **account, policy=policy)
    for attached in entity.get("attached") or ():
        facts.add(tables.IamAttachment, {}, owner_arn=arn, policy_arn=facts.arn(attached), **account)
    for group in entity.get("groups") or ():
        facts.add(tables.IamMembership, {}, user_arn=arn, group_name=group, **account)
    _tags(facts, arn, entity)


def _tags(facts: Facts, arn: str, stated: Lined) -> None:
    for name, value in (stated.get("tags") or {}).items():
        facts.add(tables.Tag, {}, resource_arn=arn, tag_key=facts.text(name), tag_value=str(value))


def _document(facts: Facts, statements: Any) -> str | None:
    return policy_text(facts.text(statements))


def _scope(facts: Facts, stated: Mapping[str, Any]) -> dict[str, str]:
    return {"account_id": account_of(facts, stated), "region": region_of(stated)}


def _name(stated: Lined) -> Any:
    return stated.get("name", stated.get("id"))


def _resource_arn(resource_type: AwsType) -> str:
    scope = "::" if resource_type.is_global else "{region}:{account}:"
    return f"arn:aws:{resource_type.service}:{scope}{resource_type.arn}"


def _type_of(facts: Facts, stated: Lined) -> AwsType:
    name = str(stated.get("type", ""))
    try:
        resource_type = aws_type(name)
    except ValueError as error:
        raise RuleError(f"{facts.source}:{stated.line}: {error}") from error
    if name not in AWS_TYPES and (near := difflib.get_close_matches(name, AWS_TYPES, n=1, cutoff=0.95)):
        raise RuleError(f"{facts.source}:{stated.line}: no resource type is named {name!r}: did you mean {near[0]}?")
    return resource_type


def _without(stated: Lined, names: Iterable[str]) -> Lined:
    return _only(stated, [name for name in stated if name not in names])


def _only(stated: Lined, names: Iterable[str]) -> Lined:
    result = Lined(getattr(stated, "line", 0))
    for name in names:
        if name in stated:
            result[name], result.lines[name] = stated[name], stated.lines.get(name, stated.line)
    return result
