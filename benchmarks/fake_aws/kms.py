"""The operations of AWS KMS that read metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from benchmarks.fake_aws.aws_protocols import RefusedError
from benchmarks.fake_aws.keys import Key
from benchmarks.fake_aws.pagination import Page
from benchmarks.fake_aws.request_context import Call, Handler
from benchmarks.fake_aws.world_state import Place


def _listing(name: str, entries: list[Any], page: Page) -> bytes:
    told: dict[str, Any] = {name: entries, "Truncated": page.token is not None}
    if page.token is not None:
        told["NextMarker"] = page.token
    return orjson.dumps(told)


def _list_keys(call: Call) -> bytes:
    place = call.place
    page = call.page("", len(place.key_ids))
    arn = f"arn:aws:kms:{place.region}:{place.account_id}:key/"
    listed = place.key_ids[page.start : page.start + page.size]
    return _listing("Keys", [{"KeyId": key_id, "KeyArn": arn + key_id} for key_id in listed], page)


def _list_aliases(call: Call) -> bytes:
    place = call.place
    aliases = place.aliases
    wanted = call.asked.get("KeyId", "")
    if wanted:
        key_id = str(wanted).rpartition("/")[2]
        aliases = [alias for alias in aliases if alias.get("TargetKeyId") == key_id]
    page = call.page(f"aliases/{wanted}", len(aliases))
    return _listing("Aliases", aliases[page.start : page.start + page.size], page)


def _describe_custom_key_stores(call: Call) -> bytes:
    stores = call.place.stores
    page = call.page("stores", len(stores))
    return _listing("CustomKeyStores", stores[page.start : page.start + page.size], page)


def _describe_key(_: Call, key: Key) -> bytes:
    return orjson.dumps({"KeyMetadata": key.metadata})


def _get_key_policy(call: Call, key: Key) -> bytes:
    if call.asked.get("PolicyName", "default") != "default":
        raise RefusedError("NotFoundException", 400, "No such policy exists")
    return orjson.dumps({"Policy": key.policy, "PolicyName": "default"})


def _get_key_last_usage(_: Call, key: Key) -> bytes:
    return orjson.dumps(key.last_usage)


def _get_key_rotation_status(_: Call, key: Key) -> bytes:
    if key.rotation is None:
        raise _unsupported(key)
    return orjson.dumps(key.rotation)


def _list_key_rotations(call: Call, key: Key) -> bytes:
    if key.rotation is None:
        raise _unsupported(key)
    page = call.page(f"rotations/{key.arn}", len(key.rotations))
    return _listing("Rotations", key.rotations[page.start : page.start + page.size], page)


def _list_resource_tags(call: Call, key: Key) -> bytes:
    page = call.page(f"tags/{key.arn}", len(key.tags))
    return _listing("Tags", key.tags[page.start : page.start + page.size], page)


def _list_grants(call: Call, key: Key) -> bytes:
    page = call.page(f"grants/{key.arn}", len(key.grants))
    return _listing("Grants", key.grants.page(page.start, page.size), page)


def _unsupported(key: Key) -> RefusedError:
    metadata = key.metadata
    reason = f"origin is {metadata['Origin']}" if metadata["Origin"] != "AWS_KMS" else f"spec is {metadata['KeySpec']}"
    return RefusedError(
        "UnsupportedOperationException", 400, f"{key.arn} {reason} which is not valid for this operation."
    )


CACHED = frozenset({"DescribeKey", "GetKeyPolicy", "GetKeyLastUsage", "GetKeyRotationStatus"})
"""Operations that answer the same whatever else is asked."""


def _of_key(answer: Callable[[Call, Key], bytes]) -> Handler:
    def handle(call: Call) -> bytes:
        key = _find(call, call.place)
        name = call.name
        if wording := key.denied.get(name):
            raise call.denied(wording, key.arn)
        encoded = key.encoded.get(name)
        if encoded is None or "PolicyName" in call.asked:
            encoded = answer(call, key)
            if name in CACHED:
                key.encoded[name] = encoded
        return encoded

    return handle


def _find(call: Call, place: Place) -> Key:
    """The key that is asked about, by id, ARN, or (DescribeKey alone) a customer's alias."""
    wanted = str(call.asked.get("KeyId", ""))
    key_id = wanted
    if wanted.startswith("arn:"):
        parts = wanted.split(":", 5)
        if len(parts) != 6 or parts[2] != "kms":
            raise RefusedError("InvalidArnException", 400, f"Invalid arn {wanted}")
        if parts[4] != place.account_id:
            raise call.denied("key policy", wanted)
        if parts[3] != place.region:
            raise RefusedError("NotFoundException", 400, f"Invalid arn {parts[3]}")
        key_id = parts[5]
    if key_id.startswith("alias/") and call.name == "DescribeKey":
        # Those of AWS itself never resolve here: with AWS, asking could create the key.
        own = () if key_id.startswith("alias/aws/") else place.aliases
        targets = [alias.get("TargetKeyId") for alias in own if alias["AliasName"] == key_id]
        key_id = str(targets[0]) if targets else ""
    found = place.key(key_id.removeprefix("key/"))
    if found is None:
        raise RefusedError("NotFoundException", 400, f"Key '{wanted}' does not exist")
    call.check(found.metadata["KeyId"])
    return found


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
