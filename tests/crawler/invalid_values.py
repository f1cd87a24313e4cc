"""Every change of every member that a crawl reads, and whether the changed response is invalid."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crawler.spec import Operation
from tests.crawler.jmespath_type_check import model_of
from tests.crawler.wire_aws import ABSENT, ITEM, Path

DEEP: Any = "bottom"
for _ in range(300):
    DEEP = [DEEP]
VALUES: Mapping[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "empty text": "",
    "text": "maybe",
    "number": 42,
    "fraction": 1.5,
    "negative": -5,
    "negative time": -1e18,
    "2**31": 2**31,
    "2**63": 2**63,
    "1e18": 1e18,
    "1e300": 1e300,
    "true": True,
    "false": False,
    "empty list": [],
    "list of texts": ["x"],
    "list of numbers": [1],
    "list of objects": [{}],
    "nested lists": DEEP,
    "empty object": {},
    "object": {"x": 1},
    "huge text": "x" * 300_000,
    "control characters": "a\x7f\x85b",
    "NUL": "a\0b",
    "time without a zone": "2026-01-01T00:00:00",
    "time after 9999": "9999-12-31T23:59:59-23:59",
    "foreign ARN": "arn:aws:kms:ap-south-2:999999999999:key/9999abcd-12ab-34cd-56ef-1234567890ab",
    "other account": ("111122223333", "999999999999"),
    "other region": ("eu-west-1", "ap-south-2"),
    "duplicate": ITEM,
}
"""Values by description; a pair replaces a part of the usual text, ``ITEM`` stands for the value of the other item."""

IDENTITIES: Mapping[str, frozenset[str]] = {
    "kms:ListKeys": frozenset({"KeyArn", "KeyId"}),
    "kms:ListAliases": frozenset({"AliasArn", "AliasName"}),
    "kms:DescribeKey": frozenset({"Arn"}),
    "secretsmanager:ListSecrets": frozenset({"ARN"}),
    "rds:DescribeDBInstances": frozenset({"DBInstanceArn"}),
    "rds:DescribeDBClusters": frozenset({"DBClusterArn"}),
    "rds:DescribeDBSnapshots": frozenset({"DBSnapshotArn"}),
    "rds:DescribeDBClusterSnapshots": frozenset({"DBClusterSnapshotArn"}),
    "elasticache:DescribeReplicationGroups": frozenset({"ARN"}),
    "elasticache:DescribeCacheClusters": frozenset({"ARN"}),
    "elasticache:DescribeServerlessCaches": frozenset({"ARN"}),
    "elasticache:DescribeSnapshots": frozenset({"ARN"}),
    "elasticache:DescribeServerlessCacheSnapshots": frozenset({"ARN"}),
    "iam:GetAccountAuthorizationDetails": frozenset({"Arn", "UserName", "RoleName", "GroupName"}),
    "cloudtrail:DescribeTrails": frozenset({"TrailARN"}),
}
"""Members that identify an item: no other value of them is valid for it."""
REQUIRED: Mapping[str, frozenset[str]] = {
    "kms:DescribeKey": frozenset(
        {"KeyManager", "KeyState", "Enabled", "KeyUsage", "Origin", "CreationDate", "KeyMetadata"}
    ),
    "kms:GetKeyPolicy": frozenset({"Policy"}),
    "kms:GetKeyRotationStatus": frozenset({"KeyRotationEnabled"}),
    "kms:ListGrants": frozenset({"GrantId", "Operations", "Grants"}),
    "kms:ListResourceTags": frozenset({"TagKey", "Tags"}),
    "kms:ListKeyRotations": frozenset({"RotationDate", "Rotations"}),
    "kms:ListKeys": frozenset({"Keys"}),
    "kms:ListAliases": frozenset({"Aliases"}),
    "kms:DescribeCustomKeyStores": frozenset({"CustomKeyStoreId", "CustomKeyStores"}),
    "secretsmanager:ListSecrets": frozenset({"Name", "SecretList"}),
    "s3:ListBuckets": frozenset({"Name", "BucketRegion", "Buckets"}),
    "s3:GetBucketEncryption": frozenset({"ServerSideEncryptionConfiguration", "SSEAlgorithm"}),
    "cloudtrail:DescribeTrails": frozenset({"Name", "trailList"}),
    "iam:GetAccountAuthorizationDetails": frozenset(
        {
            "UserDetailList",
            "RoleDetailList",
            "GroupDetailList",
            "Policies",
            "AssumeRolePolicyDocument",
            "PolicyDocument",
        }
    ),
}
"""Members that AWS returns in every response, not empty, except for empty lists of items."""


@dataclass(frozen=True)
class Case:
    """One changed member of the response to one call."""

    call: str
    operation: Operation
    path: Path
    description: str
    value: Any
    must_fail: bool
    """Whether the changed value is invalid, so that a gap is expected; otherwise AWS may mean it."""

    def __str__(self) -> str:
        return f"{self.call} {'.'.join(map(str, self.path))}: {self.description}"


def cases(call: str, operation: Operation, response: Any, reads: set[Path]) -> Iterator[Case]:
    """Yield the changes of every member that was read, in each of two items."""
    paths = {concrete for path in reads for concrete in _concrete(path) if _shape_at(operation, concrete) is not None}
    paths |= {path[: index + 1] for path in paths for index, part in enumerate(path) if isinstance(part, int)}
    for path in sorted(paths, key=str):
        usual = _value_at(response, path)
        if any(
            isinstance(part, int) and _value_at(response, path[: index + 1]) is ABSENT
            for index, part in enumerate(path)
        ):
            # The list has only one item.
            continue
        other = _value_at(response, tuple(1 - part if isinstance(part, int) else part for part in path))
        for description, value in VALUES.items():
            if isinstance(value, tuple):
                new = usual.replace(*value) if isinstance(usual, str) else ABSENT
            elif description == "duplicate":
                new = other
            else:
                new = value
            if description == "NUL" and not _is_json(operation):
                # XML cannot carry it.
                continue
            is_item = isinstance(path[-1], int)
            if (new is ABSENT and (description != "absent" or is_item)) or new == usual or (is_item and new is None):
                continue
            if isinstance(usual, list) and len(path) == 1 and new in (([],) if _is_json(operation) else ([], "", {})):
                # What AWS returns if there are none.
                continue
            yield Case(call, operation, path, description, new, _must_fail(operation, path, new))


def _concrete(path: Path) -> Iterator[Path]:
    """Yield a path at both items of its list; within an item, at the first item of each list."""
    if ITEM not in path:
        yield path
        return
    first = path.index(ITEM)
    rest = tuple(0 if part == ITEM else part for part in path[first + 1 :])
    for position in (0,) if ITEM in path[first + 1 :] else (0, 1):
        yield (*path[:first], position, *rest)


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return value


def _must_fail(operation: Operation, path: Path, value: Any) -> bool:
    name, last = str(operation), path[-1]
    missing = value is ABSENT or value is None
    if not missing and not _has_type(_shape_at(operation, path), value, is_json=_is_json(operation)):
        return True
    if last in IDENTITIES.get(name, ()):
        # The replicas of a multi-Region key are in other regions.
        return "MultiRegionConfiguration" not in path or ":ap-south-2:111122223333:" not in str(value)
    return last in REQUIRED.get(name, ()) and (missing or value in ("", []))


def _is_json(operation: Operation) -> bool:
    return model_of(operation.service, operation.name).service_model.resolved_protocol in {"json", "rest-json"}


def _shape_at(operation: Operation, path: Path) -> Any:
    shape: Any = model_of(operation.service, operation.name).output_shape
    for part in path:
        shape = shape.member if isinstance(part, int) else shape.members.get(part)
    return shape


def _has_type(shape: Any, value: Any, *, is_json: bool) -> bool:
    """Return whether AWS could send a value for a shape."""
    return _json_has_type(shape, value) if is_json else _xml_has_type(shape, value)


def _json_has_type(shape: Any, value: Any) -> bool:
    kind = shape.type_name
    if kind in {"structure", "map"}:
        return isinstance(value, dict) and (kind == "structure" or not value)
    if kind == "list":
        # An item that is a structure is checked where it is read.
        return isinstance(value, list) and all(
            isinstance(item, dict) or _json_has_type(shape.member, item) for item in value
        )
    if kind == "string":
        return isinstance(value, str) and len(value) <= TEXT_LIMIT
    if kind == "boolean":
        return isinstance(value, bool)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "timestamp":
        return isinstance(value, dt.datetime) or (is_number and 0 <= value < 2.5e11)
    return is_number and not isinstance(value, float) and _in_range(shape, value)


def _xml_has_type(shape: Any, value: Any) -> bool:
    """XML has no types: a number is a text, but not a time, and an empty element may be an empty list."""
    kind = shape.type_name
    if kind in {"structure", "list", "map"}:
        if value in ("", [], {}):
            return True
        if kind == "list":
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            return bool(items) and all(_xml_has_type(shape.member, item) for item in items)
        return kind == "structure" and isinstance(value, dict | list)
    if isinstance(value, dict | list):
        return not value and kind == "string"
    if kind == "string":
        return len(str(value)) <= TEXT_LIMIT
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "timestamp":
        return isinstance(value, dt.datetime)
    return isinstance(value, int) and not isinstance(value, bool) and _in_range(shape, value)


TEXT_LIMIT = 262_144


def _in_range(shape: Any, value: int) -> bool:
    limit = 2**31 if shape.type_name == "integer" else 2**63
    return int(shape.metadata.get("min", -limit)) <= value < limit
