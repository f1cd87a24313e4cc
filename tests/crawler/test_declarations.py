"""Checks all declarations against botocore's service models, offline; each test reports all violations."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from crawler.collector import Collected, CollectOptions, collect
from crawler.iam_policies import key_operations, operations
from crawler.services.resource_types import CACHE_CLUSTER, RESOURCE_TYPES
from crawler.spec import GLOBAL, KeyPath, Operation, ResourceType, Scope
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
from models.tables.resources import KeyReference, Resource
from models.versioned import VersionedTable
from tests.crawler.jmespath_type_check import (
    SCALARS,
    Kind,
    UnresolvedError,
    full_response,
    items_kind,
    kind_of,
    member_names,
    model_of,
    resolve,
    session,
)
from tests.crawler.scripted_aws import ACCOUNT, REGION, Caller, RecordedCall, ScriptedAws, client_for

KEYLESS = {CACHE_CLUSTER.name: "no_such_member"}
"""Resource types whose API has no member for a key, each with its placeholder path."""
READS_DATA = re.compile(
    r"(Get(Secret|Object|Parameter|Item|Record|DataKey|Random|PublicKey)\w*|BatchGet\w*|\w*Decrypt\w*|GetFunction)"
)
TOKEN = re.compile(r"(Next)?(Continuation)?(Token|Marker)", re.IGNORECASE)
ALL = operations()


def existing() -> list[Operation]:
    """Return the operations in the service models; a separate test reports the others."""
    operations_in_models = []
    for operation in ALL:
        try:
            model_of(operation.service, operation.name)
        except UnresolvedError:
            continue
        operations_in_models.append(operation)
    return operations_in_models


def fail_with(problems: list[str]) -> None:
    """Fail with one line per violation, if there are any."""
    assert not problems, "\n" + "\n".join(problems)


def test_every_operation_exists_and_only_reads() -> None:
    """Every declared operation is in the service models and reads metadata only."""
    problems = []
    for operation in ALL:
        try:
            model_of(operation.service, operation.name)
        except UnresolvedError as error:
            problems.append(f"{operation}: {error}")
        reads = operation.name.startswith(("Describe", "List", "Get")) or str(operation) == "sts:AssumeRole"
        if not reads or READS_DATA.fullmatch(operation.name):
            problems.append(f"{operation}: does not read metadata only")
        if not re.fullmatch(r"[a-z0-9-]+:(Describe|List|Get|AssumeRole)\w*", operation.iam_action):
            problems.append(f"{operation}: the IAM action {operation.iam_action} is not read-only")
    fail_with(problems)


def test_every_parameter_exists_with_a_valid_value() -> None:
    """Parameters are input members with values of the right type; required parameters are present."""
    fail_with([f"{operation}: {problem}" for operation in existing() for problem in _parameter_problems(operation)])


def _parameter_problems(operation: Operation) -> Iterator[str]:
    shape: Any = model_of(operation.service, operation.name).input_shape
    members = shape.members if shape else {}
    for name, value in operation.params.items():
        if name not in members:
            yield f"{name} is not a parameter"
            continue
        member = members[name]
        value_type = {"string": str, "boolean": bool, "number": int, "list": list}.get(kind_of(member).name)
        if value_type is None or not isinstance(value, value_type):
            yield f"{name} is a {member.type_name}, not {value!r}"
        elif getattr(member, "enum", None) and not str(value).startswith("@") and value not in member.enum:
            yield f"{name} is one of {member.enum}, not {value!r}"
    if operation.name != "AssumeRole":  # its parameters come from the settings: see test_credentials.py
        for name in shape.required_members if shape else ():
            if name not in operation.params:
                yield f"the required parameter {name} is missing"


def test_every_listing_declares_its_paging() -> None:
    """Tokens and page sizes are input and output members, within their limits, and match botocore's paginators."""
    fail_with([f"{operation}: {problem}" for operation in existing() for problem in _paging_problems(operation)])


def _paging_problems(operation: Operation) -> Iterator[str]:
    model = model_of(operation.service, operation.name)
    request: Any = model.input_shape
    response: Any = model.output_shape
    sent, received = (request.members if request else {}), (response.members if response else {})
    paging = operation.paging
    if paging is None:
        tokens = [name for name in received if TOKEN.fullmatch(name)]
        if tokens:
            yield f"returns pages ({', '.join(tokens)}), but declares no paging: pages would be lost"
        return
    for name, members, kind in (
        (paging.receive, received, "string"),
        (paging.send, sent, "string"),
        (paging.limit, sent, "number"),
        (paging.more, received, "boolean"),
    ):
        if name and (name not in members or kind_of(members[name]).name != kind):
            yield f"{name} is no {kind} of {'the response' if members is received else 'the request'}"
    if paging.limit in sent:
        bounds = sent[paging.limit].metadata
        if paging.size is None or not bounds.get("min", 1) <= paging.size <= bounds.get("max", paging.size):
            yield f"a page of {paging.size} is outside {bounds}"
    elif paging.limit is None:
        limits = [name for name in sent if re.fullmatch(r"Max(Results|Records|Items|Buckets)|Limit", name)]
        if limits:
            yield f"{limits} could request larger pages"
    config = _paginator(operation)
    if config:
        ours = (paging.receive, paging.send, paging.limit, paging.more, re.split(r"[.\[]", operation.items)[0])
        names = ("output_token", "input_token", "limit_key", "more_results", "result_key")
        theirs = tuple(config.get(name) for name in names)
        if isinstance(theirs[-1], list) and not operation.items:
            # With several lists the whole page is recorded.
            theirs = (*theirs[:-1], "")
        if ours != theirs:
            yield f"botocore pages by {theirs}, the declaration by {ours}"


def _paginator(operation: Operation) -> dict[str, Any] | None:
    try:
        model = session().get_paginator_model(operation.service)
        config: dict[str, Any] = model.get_paginator(operation.name)
    except (ValueError, LookupError):
        return None
    return config


def test_every_path_resolves_to_the_expected_type() -> None:
    """The items and all paths of all resource types resolve against the response shape to the right types."""
    problems = []
    for operation in existing():
        try:
            resolved = items_kind(operation)
        except UnresolvedError as error:
            problems.append(f"{operation}: items {operation.items}: {error}")
        else:
            if resolved.name != "structure":
                problems.append(f"{operation}: an item is a {resolved}")
    fail_with(problems + [f"{kind.name}: {problem}" for kind in RESOURCE_TYPES for problem in _path_problems(kind)])


def _path_problems(kind: ResourceType) -> Iterator[str]:
    listed = items_kind(kind.listing)
    named = items_kind(kind.detail) if kind.detail else listed
    texts, text, times = {"string", "list of string"}, {"string"}, {"timestamp"}
    wanted: list[tuple[str, str, Kind, set[str]]] = [
        ("arn", kind.arn, listed, text),
        ("title", kind.title, listed, text),
        ("tags", kind.tags, listed, {"list of structure"}),
        ("status", kind.status, listed, text),
        ("encryption", kind.encryption, listed, text),
        ("created", kind.created, listed, times),
        ("deletion", kind.deletion, listed, times),
        ("region", kind.region, listed, text),
        ("primary_region", kind.primary_region, listed, text),
        *(("key", key.path, named, texts) for key in kind.keys if key.path != KEYLESS.get(kind.name)),
        *(("discriminator", key.discriminator, named, text) for key in kind.keys),
        *((f"details.{name}", path, listed, SCALARS) for name, path in kind.details.items()),
    ]
    for what, path, start, kinds in wanted:
        if not path:
            continue
        try:
            resolved = resolve(path, start)
        except UnresolvedError as error:
            yield f"{what} {path}: {error}"
            continue
        if str(resolved) not in kinds:
            yield f"{what} {path} is a {resolved}"
        if what == "tags":
            yield from _tag_problems(resolved.member)
    for name in {*kind.missing_values, *kind.truncate_to_week} - {*kind.details}:
        yield f"{name} is no detail"
    if bool(kind.policy) != (kind.policy_operation is not None):
        yield "a policy has both an operation and a path, or neither"
    if kind.policy_operation and str(resolved := resolve(kind.policy, items_kind(kind.policy_operation))) != "string":
        yield f"policy {kind.policy} is a {resolved}"
    if len({bool(kind.replicas), bool(kind.primary_region), kind.replicas_operation is not None}) > 1:
        yield "replicas have an operation, a path and the path of the primary region, or none of them"
    if kind.replicas_operation:
        replica = resolve(kind.replicas, items_kind(kind.replicas_operation)).member
        for name in ("Region", "Status", "StatusMessage", "KmsKeyId"):
            if replica is None or name not in replica.shape.members:
                yield f"a replica has no {name}"
    if kind.tags_operation:
        yield from _tag_problems(items_kind(kind.tags_operation))
    if kind.type_by_engine and resolve("Engine", listed) is None:
        yield "items have no engine"
    if len({key.role for key in kind.keys}) < len(kind.keys):
        yield "two keys have the same role"


def _tag_problems(tag: Kind | None) -> Iterator[str]:
    for name in ("Key", "Value"):
        if tag is None or tag.name != "structure" or name not in tag.shape.members:
            yield f"a tag has no {name}"


def test_required_members_exist() -> None:
    """Each member that an operation declares as always returned is a member of its items."""
    problems = []
    for operation in ALL:
        for name in operation.requires:
            try:
                resolve(name.replace("?", ""), items_kind(operation))
            except UnresolvedError as error:
                problems.append(f"{operation}: {error}")
    fail_with(problems)


def test_a_type_without_a_key_has_no_key_in_its_api() -> None:
    """A placeholder path is allowed only if no member of the item, at any depth, refers to KMS."""
    for kind in RESOURCE_TYPES:
        path = KEYLESS.get(kind.name)
        item = items_kind(kind.listing)
        kms_members = [name for name in member_names(item.shape) if re.search("kms", name, re.IGNORECASE)]
        if path is None:
            assert kms_members or kind.detail, f"{kind.name} names no key: declare it as keyless"
        else:
            assert [key.path for key in kind.keys] == [path]
            assert path not in item.shape.members
            assert kms_members == [], f"{kind.name} does name its key: {kms_members}"
            assert kind.note


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("NoSuchThing", "no member NoSuchThing"),
        ("DBInstances[].NoSuchThing", "no member NoSuchThing"),
        ("DBInstances.Engine", "selected from a list"),
        ("Marker[0]", "item is selected from a string"),
        ("DBInstances[?Engin == 'x']", "no member Engin"),
        ("Marker || DBInstances", "joins a string and a list"),
        ("length(DBInstances)", "function length"),
        ("join(',', DBInstances)", "join is called with"),
        ("DBInstances[].{a: NoSuchThing}", "no member NoSuchThing"),
        ("*.Marker", "value_projection"),
        ("DBInstances[?Engine == null]", "no member null"),
    ],
)
def test_the_check_reports_invalid_paths(path: str, message: str) -> None:
    """A wrong path and an unsupported expression are both reported."""
    with pytest.raises(UnresolvedError, match=re.escape(message)):
        resolve(path, kind_of(model_of("rds", "DescribeDBInstances").output_shape))


def full(call: RecordedCall) -> dict[str, Any]:
    """Return a response with every member; the cache cluster is a stand-alone one, whose response has no key."""
    service, _, name = call.name.partition(":")
    operation = next(declared for declared in ALL if (declared.service, declared.name) == (service, name))
    response = full_response(operation)
    if name == "DescribeCacheClusters":
        for cluster in response["CacheClusters"]:
            del cluster["ReplicationGroupId"]
    if name == "DescribeKey":
        metadata = response["KeyMetadata"]
        topology = metadata["MultiRegionConfiguration"]
        for described in (metadata, topology["PrimaryKey"], *topology["ReplicaKeys"]):
            described["Arn"] = call["KeyId"]
    if name == "ListBuckets":
        response["Buckets"][0] |= {"BucketRegion": REGION, "BucketArn": "arn:aws:s3:::bucket"}
    if name == "DescribeTrails":
        response["trailList"][0]["HomeRegion"] = REGION
    if name == "GetAccountAuthorizationDetails":
        for kind, listed in (("User", "UserDetailList"), ("Role", "RoleDetailList"), ("Group", "GroupDetailList")):
            entry = response[listed][0]
            entry["Arn"] = f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{entry[f'{kind}Name']}"
        policy = response["Policies"][0]
        policy["Arn"] = f"{POLICY_PREFIX}{policy['PolicyName']}"
    return response


POLICY_PREFIX = f"arn:aws:iam::{ACCOUNT}:policy/"


@pytest.fixture(scope="module")
def filled() -> Batch:
    """The facts of a region and of the global scope when responses have every member."""

    async def both() -> list[Collected]:
        aws = ScriptedAws({str(operation): full for operation in ALL})
        scopes = (Scope(ACCOUNT, REGION), Scope(ACCOUNT, GLOBAL))
        return [await collect(client_for(aws), Caller(), scope, CollectOptions(iam=True)) for scope in scopes]

    batch = Batch()
    for collected in asyncio.run(both()):
        assert collected.gaps == 0, collected.batch.rows
        batch.extend(collected.batch)
    return batch


@pytest.mark.parametrize("kind", RESOURCE_TYPES, ids=lambda kind: kind.name)
def test_a_full_response_fills_every_declared_field(filled: Batch, kind: ResourceType) -> None:
    """Every declared field of a resource type is set when the service returns it."""
    (row,) = [row for row in filled.rows[Resource] if row["resource_type"] == kind.name]
    empty = [
        column
        for column, path in (
            ("name", kind.title),
            ("status", kind.status),
            ("encryption", kind.encryption),
            ("created_at", kind.created),
            ("deletion_at", kind.deletion),
        )
        if path and not row[column]
    ]
    assert empty == []
    assert all(f'"{name}":' in row["details"] for name in kind.details)
    tagged = {tag["resource_arn"] for tag in filled.rows[Tag]}
    assert (row["resource_arn"] in tagged) == bool(kind.tags or kind.tags_operation)
    references = {
        resolved["role"]: resolved
        for resolved in filled.rows[KeyReference]
        if resolved["resource_arn"] == row["resource_arn"]
    }
    assert set(references) == {key.role for key in kind.keys}
    for key in kind.keys:
        assert _is_filled(references[key.role], key) == (key.path != KEYLESS.get(kind.name)), references[key.role]


def _is_filled(reference: Any, key: KeyPath) -> bool:
    if key.discriminator and not reference["encryption"]:
        return False
    return all(reference[name] for name in ("raw_value", "target_arn", "target_account", "target_region"))


@pytest.mark.parametrize(
    "model",
    [Key, KeyMetadata, KeyPolicy, KeyGrant, KeyRotation, KeyRotationEvent, Alias, CustomKeyStore, Tag],
    ids=lambda model: model.__name__,
)
def test_a_full_response_fills_every_column_of_a_key(filled: Batch, model: type[VersionedTable]) -> None:
    """Every column of the key tables is set when KMS returns it, except the reason of a rotation that applies."""
    exempt = {"reason"} if model is KeyRotation else set()
    assert filled.rows[model]
    empty = {name for row in filled.rows[model] for name in model.value_columns() if row[name] in {None, ""}}
    assert empty - exempt == set()


def test_kms_calls_name_keys_by_arn_only() -> None:
    """Every declared KMS operation takes the ARN of a key from ListKeys."""
    for operation in key_operations():
        assert operation.params.get("KeyId", "@key_arn") == "@key_arn"
