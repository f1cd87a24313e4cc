"""The metadata operations of AWS KMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from benchmarks.fake_aws.aws_protocols import ApiError
from benchmarks.fake_aws.keys import Key
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.world_state import AccountRegion


def _list_keys(call: Call) -> Mapping[str, Any]:
    account_region = call.account_region
    page = call.page("", len(account_region.key_ids))
    arn = f"arn:aws:kms:{account_region.region}:{account_region.account_id}:key/"
    entries = account_region.key_ids[page.start : page.start + page.size]
    return call.paged(page, {"Keys": [{"KeyId": key_id, "KeyArn": arn + key_id} for key_id in entries]})


def _list_aliases(call: Call) -> Mapping[str, Any]:
    account_region = call.account_region
    aliases = account_region.aliases
    key_reference = call.params.get("KeyId", "")
    if key_reference:
        key_id = str(key_reference).rpartition("/")[2]
        aliases = [alias for alias in aliases if alias.get("TargetKeyId") == key_id]
    return call.listing(f"aliases/{key_reference}", "Aliases", aliases)


def _describe_custom_key_stores(call: Call) -> Mapping[str, Any]:
    return call.listing("stores", "CustomKeyStores", call.account_region.stores)


def _describe_key(_: Call, key: Key) -> Mapping[str, Any]:
    return {"KeyMetadata": key.metadata}


def _get_key_policy(call: Call, key: Key) -> Mapping[str, Any]:
    if call.params.get("PolicyName", "default") != "default":
        raise ApiError("NotFoundException", 400, "No such policy exists")
    return {"Policy": key.policy, "PolicyName": "default"}


def _get_key_last_usage(_: Call, key: Key) -> Mapping[str, Any]:
    return key.last_usage


def _get_key_rotation_status(_: Call, key: Key) -> Mapping[str, Any]:
    if key.rotation is None:
        raise _unsupported(key)
    return key.rotation


def _list_key_rotations(call: Call, key: Key) -> Mapping[str, Any]:
    if key.rotation is None:
        raise _unsupported(key)
    return call.listing(f"rotations/{key.arn}", "Rotations", key.rotations)


def _list_resource_tags(call: Call, key: Key) -> Mapping[str, Any]:
    return call.listing(f"tags/{key.arn}", "Tags", key.tags)


def _list_grants(call: Call, key: Key) -> Mapping[str, Any]:
    page = call.page(f"grants/{key.arn}", len(key.grants))
    return call.paged(page, {"Grants": key.grants.page(page.start, page.size)})


def _unsupported(key: Key) -> ApiError:
    metadata = key.metadata
    reason = f"origin is {metadata['Origin']}" if metadata["Origin"] != "AWS_KMS" else f"spec is {metadata['KeySpec']}"
    return ApiError("UnsupportedOperationException", 400, f"{key.arn} {reason} which is not valid for this operation.")


CACHED = frozenset({"DescribeKey", "GetKeyPolicy", "GetKeyLastUsage", "GetKeyRotationStatus"})
"""Operations whose response depends only on the key."""


def _of_key(respond: Callable[[Call, Key], Mapping[str, Any]]) -> Handler:
    def handle(call: Call) -> bytes:
        key = _find(call, call.account_region)
        name = call.name
        if reason := key.denied.get(name):
            raise call.denied(reason, key.arn)
        encoded = key.encoded.get(name)
        if encoded is None or "PolicyName" in call.params:
            encoded = orjson.dumps(respond(call, key))
            if name in CACHED:
                key.encoded[name] = encoded
        return encoded

    return handle


def _find(call: Call, account_region: AccountRegion) -> Key:
    """The key of a call, by id, ARN, or (only for DescribeKey) customer alias."""
    key_reference = str(call.params.get("KeyId", ""))
    key_id = key_reference
    if key_reference.startswith("arn:"):
        parts = key_reference.split(":", 5)
        if len(parts) != 6 or parts[2] != "kms":
            raise ApiError("InvalidArnException", 400, f"Invalid arn {key_reference}")
        if parts[4] != account_region.account_id:
            raise call.denied("key policy", key_reference)
        if parts[3] != account_region.region:
            raise ApiError("NotFoundException", 400, f"Invalid arn {parts[3]}")
        key_id = parts[5]
    if key_id.startswith("alias/") and call.name == "DescribeKey":
        # AWS managed aliases never resolve: in AWS, the call could create the key.
        own = () if key_id.startswith("alias/aws/") else account_region.aliases
        targets = [alias.get("TargetKeyId") for alias in own if alias["AliasName"] == key_id]
        key_id = str(targets[0]) if targets else ""
    key = account_region.key(key_id.removeprefix("key/"))
    if key is None:
        raise ApiError("NotFoundException", 400, f"Key '{key_reference}' does not exist")
    call.check(key.metadata["KeyId"])
    return key


OPERATIONS: dict[str, Handler] = {
    "kms:ListKeys": _list_keys,
    "kms:ListAliases": _list_aliases,
    "kms:DescribeCustomKeyStores": _describe_custom_key_stores,
    "kms:DescribeKey": _of_key(_describe_key),
    "kms:GetKeyPolicy": _of_key(_get_key_policy),
    "kms:GetKeyLastUsage": _of_key(_get_key_last_usage),
    "kms:GetKeyRotationStatus": _of_key(_get_key_rotation_status),
    "kms:ListKeyRotations": _of_key(_list_key_rotations),
    "kms:ListResourceTags": _of_key(_list_resource_tags),
    "kms:ListGrants": _of_key(_list_grants),
}
