"""KMS keys, their policies, grants, tags, rotation, aliases and key stores: the operations and the facts they become.

Sources: the KMS API reference, operations ListKeys, DescribeKey, ListAliases, GetKeyPolicy, ListGrants, ListResourceTags,
GetKeyRotationStatus, ListKeyRotations, DescribeCustomKeyStores. DescribeKey is called with key ARNs only: an
``alias/aws/...`` name could create the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from crawler.aws.response_validation import arn_prefix, check_identifier
from crawler.spec import Operation, Paging, Step, Subject
from models.hashing import canonical_json
from models.store.scd2_merge import Batch
from models.tables.keys import (
    Alias,
    CustomKeyStore,
    Key,
    KeyGrant,
    KeyMetadata,
    KeyPolicy,
    KeyRotation,
    KeyRotationEvent,
    Tag,
)


def _paged(size: int) -> Paging:
    return Paging(receive="NextMarker", send="Marker", limit="Limit", size=size, more="Truncated")


def _of_key(
    name: str, requires: tuple[str, ...], *, items: str = "", paging: Paging | None = None, optional: bool = False
) -> Operation:
    """Return an operation on one key; ``optional`` if not every key supports it."""
    codes = frozenset({"UnsupportedOperationException"} if optional else ())
    return Operation("kms", name, {"KeyId": "@key_arn"}, items, requires, paging, empty_error_codes=codes)


LIST_ALIASES = Operation("kms", "ListAliases", items="Aliases", requires=("AliasArn", "AliasName"), paging=_paged(100))
LIST_KEYS = Operation("kms", "ListKeys", items="Keys", requires=("KeyArn", "KeyId"), paging=_paged(1000))
DESCRIBE_KEY = _of_key(
    "DescribeKey",
    ("Arn", "KeyManager", "KeyState", "Enabled", "KeyUsage", "Origin", "CreationDate"),
    items="KeyMetadata",
)
GET_KEY_POLICY = Operation("kms", "GetKeyPolicy", {"KeyId": "@key_arn", "PolicyName": "default"}, requires=("Policy",))
LIST_GRANTS = _of_key("ListGrants", ("GrantId", "Operations"), items="Grants", paging=_paged(100))
LIST_RESOURCE_TAGS = _of_key("ListResourceTags", ("TagKey",), items="Tags", paging=_paged(50))
GET_KEY_ROTATION_STATUS = _of_key("GetKeyRotationStatus", ("KeyRotationEnabled",), optional=True)
LIST_KEY_ROTATIONS = _of_key(
    "ListKeyRotations", ("RotationDate",), items="Rotations", paging=_paged(1000), optional=True
)
DESCRIBE_CUSTOM_KEY_STORES = Operation(
    "kms", "DescribeCustomKeyStores", items="CustomKeyStores", requires=("CustomKeyStoreId",), paging=_paged(1000)
)

ALGORITHMS = (
    "EncryptionAlgorithms",
    "SigningAlgorithms",
    "KeyAgreementAlgorithms",
    "EncapsulationAlgorithms",
    "MacAlgorithms",
)
AWS_MANAGED = "an AWS managed key"


_KEY_ID = re.compile(r"[A-Za-z0-9-]{1,256}")


def _check_key(subject: Subject, item: Mapping[str, Any]) -> None:
    """Raise ValueError if an item names another key than the requested one."""
    if item.get("KeyId", subject.arn) not in {subject.arn, subject.arn.rpartition("/")[2]}:
        raise ValueError(f"KeyId is {item['KeyId']!r}")


def _multi_region_arn(subject: Subject, arn: str) -> str:
    """Return the ARN of the same multi-Region key in any region; raises ValueError if it is another key."""
    own, other = subject.arn.split(":"), arn.split(":")
    if len(other) != len(own) or not re.fullmatch("[a-z0-9-]+", other[3]) or other != [*own[:3], other[3], *own[4:]]:
        raise ValueError(f"{arn!r} is not the ARN of the key in another region")
    return arn


def _alias(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    scope = subject.scope
    name, target = item["AliasName"], item.get("TargetKeyId")
    prefix = arn_prefix(scope, "kms")
    target_arn = f"{prefix}key/{target}" if target else None
    if not name.startswith("alias/") or item["AliasArn"] != prefix + name:
        raise ValueError(f"{item['AliasArn']!r} is not the ARN of {name!r} in {scope}")
    if target and not _KEY_ID.fullmatch(target):
        raise ValueError(f"{target!r} is not a key id")
    batch.add(
        Alias,
        alias_arn=check_identifier(LIST_ALIASES, item["AliasArn"]),
        alias_name=name,
        account_id=scope.account_id,
        region=scope.region,
        target_key_id=target,
        target_key_arn=target_arn,
        created_at=item.get("CreationDate"),
        updated_at=item.get("LastUpdatedDate"),
    )
    if target_arn and name.startswith("alias/aws/"):
        subject.values.setdefault("aws_managed", set()).add(target_arn)


def _key(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject:
    scope = subject.scope
    arn, key_id = item["KeyArn"], item["KeyId"]
    if arn != f"{arn_prefix(scope, 'kms')}key/{key_id}" or not _KEY_ID.fullmatch(key_id):
        raise ValueError(f"{arn!r} is not the ARN of key {key_id!r} in {scope}")
    batch.add(Key, key_arn=arn, key_id=key_id, account_id=scope.account_id, region=scope.region)
    known_as_managed = arn in subject.values.get("aws_managed", ())
    return Subject(
        scope,
        subject.region,
        arn,
        {
            "key_arn": arn,
            "aws_managed_key_details": subject.values.get("aws_managed_key_details", False),
            "managed": known_as_managed or None,
        },
    )


_RENAMED = {
    "manager": "KeyManager",
    "state": "KeyState",
    "created_at": "CreationDate",
    "pending_window_days": "PendingDeletionWindowInDays",
    "material_expires_at": "ValidTo",
    "key_material_id": "CurrentKeyMaterialId",
}
_METADATA_MEMBERS = {
    column: _RENAMED.get(column) or column.title().replace("_", "") for column in KeyMetadata.value_columns()
}
"""The member of DescribeKey that fills each column: the column's name in CamelCase, unless AWS names it differently."""


def _metadata(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject:
    if item["Arn"] != subject.arn:
        raise ValueError(f"Arn is {item['Arn']!r}")
    topology = item.get("MultiRegionConfiguration") or {}
    replicas = [_multi_region_arn(subject, replica["Arn"]) for replica in topology.get("ReplicaKeys") or ()]
    if item.get("MultiRegion") and not topology:
        raise ValueError("a multi-Region key has no MultiRegionConfiguration")
    algorithms = {name: sorted(item[name]) for name in ALGORITHMS if item.get(name)}
    spec = item.get("KeySpec") or item["CustomerMasterKeySpec"]
    values = {column: item.get(member) for column, member in _METADATA_MEMBERS.items()}
    values |= {
        "key_arn": subject.arn,
        "key_spec": spec,
        "multi_region_type": topology.get("MultiRegionKeyType"),
        "primary_arn": _multi_region_arn(subject, topology["PrimaryKey"]["Arn"]) if topology else None,
        "replica_arns": canonical_json(sorted(replicas)) if topology else None,
        "xks_key_id": (item.get("XksKeyConfiguration") or {}).get("Id"),
        "algorithms": canonical_json(algorithms) if algorithms else None,
    }
    batch.add(KeyMetadata, **values)
    managed = {"AWS": True, "CUSTOMER": False}.get(item.get("KeyManager", ""), subject.values["managed"])
    values_of_key = {
        **subject.values,
        "managed": managed,
        "spec": spec,
        "origin": item.get("Origin"),
        "multi_region_type": topology.get("MultiRegionKeyType"),
    }
    return Subject(subject.scope, subject.region, subject.arn, values_of_key)


def _skip_aws_managed_unless_enabled(subject: Subject) -> str | None:
    return AWS_MANAGED if subject.values.get("managed") and not subject.values.get("aws_managed_key_details") else None


def _skip_aws_managed(subject: Subject) -> str | None:
    return AWS_MANAGED if subject.values.get("managed") else None


def _policy(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    batch.add(KeyPolicy, key_arn=subject.arn, policy_hash=batch.document(item["Policy"]))


def _grant(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    _check_key(subject, item)
    constraints = item.get("Constraints")
    if not (item.get("GranteePrincipal") or item.get("GranteeServicePrincipal")):
        raise ValueError("it has no grantee")
    batch.add(
        KeyGrant,
        key_arn=subject.arn,
        grant_id=check_identifier(LIST_GRANTS, item["GrantId"]),
        name=item.get("Name") or None,
        grantee_principal=item.get("GranteePrincipal"),
        grantee_service_principal=item.get("GranteeServicePrincipal"),
        retiring_principal=item.get("RetiringPrincipal"),
        retiring_service_principal=item.get("RetiringServicePrincipal"),
        issuing_account=item.get("IssuingAccount"),
        operations=canonical_json(sorted(item["Operations"])),
        constraints=canonical_json(constraints) if constraints else None,
        created_at=item.get("CreationDate"),
    )


def _tag(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    tag_key = check_identifier(LIST_RESOURCE_TAGS, item["TagKey"])
    batch.add(Tag, resource_arn=subject.arn, tag_key=tag_key, tag_value=item["TagValue"])


def _skip_rotation(subject: Subject) -> str | None:
    if subject.values.get("managed"):
        return f"{AWS_MANAGED}: AWS rotates it every year"
    spec, origin = subject.values.get("spec"), subject.values.get("origin")
    if spec and spec != "SYMMETRIC_DEFAULT":
        return f"key spec {spec} cannot rotate"
    if origin in {"AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}:
        return f"a key of origin {origin} cannot rotate"
    if subject.values.get("multi_region_type") == "REPLICA":
        return "a multi-Region replica: its rotation is set on its primary"
    return None


def _record_no_rotation(subject: Subject, reason: str, batch: Batch) -> None:
    batch.add(
        KeyRotation,
        key_arn=subject.arn,
        status="not_applicable",
        reason=reason,
        period_days=None,
        next_rotation_at=None,
        on_demand_started_at=None,
    )


def _rotation(subject: Subject, item: Mapping[str, Any], batch: Batch) -> Subject | None:
    if not item:
        _record_no_rotation(subject, "the key's origin or type does not support rotation", batch)
        return None
    _check_key(subject, item)
    batch.add(
        KeyRotation,
        key_arn=subject.arn,
        status="enabled" if item["KeyRotationEnabled"] else "disabled",
        reason=None,
        period_days=item.get("RotationPeriodInDays"),
        next_rotation_at=item.get("NextRotationDate"),
        on_demand_started_at=item.get("OnDemandRotationStartDate"),
    )
    return subject


def _rotation_event(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    _check_key(subject, item)
    batch.add(
        KeyRotationEvent,
        key_arn=subject.arn,
        rotated_at=item["RotationDate"],
        rotation_type=item.get("RotationType"),
        key_material_id=item.get("KeyMaterialId"),
        key_material_state=item.get("KeyMaterialState"),
    )


def _store(subject: Subject, item: Mapping[str, Any], batch: Batch) -> None:
    batch.add(
        CustomKeyStore,
        account_id=subject.scope.account_id,
        region=subject.scope.region,
        store_id=check_identifier(DESCRIBE_CUSTOM_KEY_STORES, item["CustomKeyStoreId"]),
        name=item.get("CustomKeyStoreName"),
        store_type=item.get("CustomKeyStoreType"),
        connection_state=item.get("ConnectionState"),
        connection_error=item.get("ConnectionErrorCode"),
        cloud_hsm_cluster_id=item.get("CloudHsmClusterId"),
        xks_connectivity=(item.get("XksProxyConfiguration") or {}).get("Connectivity"),
        created_at=item.get("CreationDate"),
    )


ALIASES = Step(LIST_ALIASES, _alias, (Alias,), identity="AliasArn")
"""Runs before the keys: ``alias/aws/...`` identifies AWS managed keys even if DescribeKey is denied."""

KEYS = Step(
    LIST_KEYS,
    _key,
    (Key,),
    identity="KeyArn",
    children=(
        Step(
            DESCRIBE_KEY,
            _metadata,
            children_survive=True,
            children=(
                Step(GET_KEY_POLICY, _policy, skip_reason=_skip_aws_managed_unless_enabled),
                Step(LIST_GRANTS, _grant, (KeyGrant,), "GrantId", skip_reason=_skip_aws_managed_unless_enabled),
                Step(LIST_RESOURCE_TAGS, _tag, (Tag,), "TagKey", skip_reason=_skip_aws_managed),
                Step(
                    GET_KEY_ROTATION_STATUS,
                    _rotation,
                    skip_reason=_skip_rotation,
                    on_skip=_record_no_rotation,
                    children=(Step(LIST_KEY_ROTATIONS, _rotation_event, (KeyRotationEvent,), "RotationDate"),),
                ),
            ),
        ),
    ),
)

KEY_STORES = Step(DESCRIBE_CUSTOM_KEY_STORES, _store, (CustomKeyStore,), "CustomKeyStoreId")
