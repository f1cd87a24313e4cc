"""An account whose responses have every member, as bytes on the wire, and the changes of single members."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import botocore.session
from botocore.model import OperationModel, Shape

from crawler.aws.codecs import Codecs, Response
from crawler.aws.transport_boto3 import Credentials
from crawler.spec import Operation
from tests.crawler.jmespath_type_check import TIMESTAMP, full_response, model_of
from tests.crawler.scripted_aws import ACCOUNT, REGION, Answer, RecordedCall

ITEM = -1
"""Stands in a path for any item of a list."""
ABSENT = object()
"""As a value: the member is absent."""
Path = tuple[str | int, ...]


def full(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a response with every member. A cache cluster is a stand-alone one, whose response has no key."""
    response = full_response(operation)
    if operation.name == "DescribeCacheClusters":
        for cluster in response["CacheClusters"]:
            del cluster["ReplicationGroupId"]
    if operation.name == "DescribeKey":
        metadata = response["KeyMetadata"]
        topology = metadata["MultiRegionConfiguration"]
        for described in (metadata, topology["PrimaryKey"], *topology["ReplicaKeys"]):
            described["Arn"] = params["KeyId"]
    if operation.name == "ListBuckets":
        response["Buckets"][0] |= {
            "BucketRegion": REGION,
            "BucketArn": f"arn:aws:s3:::{response['Buckets'][0]['Name']}",
        }
    if operation.name == "DescribeTrails":
        response["trailList"][0] |= {"HomeRegion": REGION, "IsOrganizationTrail": False, "IsMultiRegionTrail": False}
    if operation.name == "GetAccountAuthorizationDetails":
        for kind, listed in (("User", "UserDetailList"), ("Role", "RoleDetailList"), ("Group", "GroupDetailList")):
            entry = response[listed][0]
            entry["Arn"] = f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{entry[f'{kind}Name']}"
        policy = response["Policies"][0]
        policy["Arn"] = f"arn:aws:iam::{ACCOUNT}:policy/{policy['PolicyName']}"
    return response


def doubled(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a full response whose lists of structures have two items with names of their own."""
    call = call_id(operation, params)
    if call not in _DOUBLED:
        _DOUBLED[call] = _doubled(operation, params)
        _NOT_WRITTEN.update(_containers(_DOUBLED[call]))
    return _DOUBLED[call]


_DOUBLED: dict[str, dict[str, Any]] = {}
"""Responses by call; never changed."""
_NOT_WRITTEN: set[int] = set()
"""The identities of their structures and lists, which changed copies of a response share, until they are written as XML."""
_WRITTEN: dict[int, str] = {}
"""The XML of these structures and lists."""


def _containers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list):
        yield id(value)
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)


def _doubled(operation: Operation, params: Mapping[str, Any]) -> dict[str, Any]:
    response = full(operation, params)
    other = renamed(response, {operation.name: f"{operation.name}2", "1234abcd": "2345abcd", "made-up": "made-up2"})
    for name, value in response.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value.append(other[name][0])
    for item in response.get("SecretList", [])[1:]:
        # The policy of a deleted secret is not read.
        del item["DeletedDate"]
    for item in response.get("Grants", []) + response.get("Rotations", [])[:1]:
        item["KeyId"] = params["KeyId"]
    for item in response.get("Rotations", ())[1:]:
        item |= {"KeyId": params["KeyId"], "RotationDate": TIMESTAMP - dt.timedelta(days=365)}
    if "KeyId" in params and "KeyId" in response:
        response["KeyId"] = params["KeyId"]
    return response


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a value with texts replaced at any depth."""
    if isinstance(value, dict):
        return {name: renamed(item, names) for name, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of a response with another value at a path, which may not exist yet."""
    if not path:
        return new
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        items = list(value)
        items[first] = replaced(items[first], rest, new)
        return items
    members = dict(value)
    members[first] = replaced(members.get(first, {}), rest, new)
    if members[first] is ABSENT:
        del members[first]
    return members


def body_of(operation: Operation, response: Any) -> bytes:
    """Return a response as a body in the protocol of the service; values may have any type."""
    model = model_of(operation.service, operation.name)
    shape, protocol = model.output_shape, model.service_model.resolved_protocol
    assert shape is not None
    if protocol in {"json", "rest-json"}:
        # orjson does not write more than 254 levels.
        return json.dumps(_json(shape, response), default=_seconds).encode()
    return _xml_body(model, shape, response, protocol).encode("utf-8", "surrogatepass")


def _xml_body(model: OperationModel, shape: Any, response: Any, protocol: str) -> str:
    if payload := shape.serialization.get("payload"):
        shape, response = shape.members[payload], response.get(payload, {})
    content = _xml(shape, response)
    if protocol == "query":
        content = f"<{model.name}Result>{content}</{model.name}Result>"
    root = f"{model.name}Response" if protocol in {"query", "ec2"} else shape.serialization.get("name", shape.name)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{content}</{root}>'


def _seconds(value: Any) -> float:
    if isinstance(value, dt.datetime):
        return value.timestamp()
    raise TypeError(type(value))


def _json(shape: Any, value: Any) -> Any:
    """Return a value with its names on the wire; a value of another type than its shape stays as it is."""
    if shape.type_name == "structure" and isinstance(value, dict):
        named = ((shape.members.get(name), name, item) for name, item in value.items())
        return {
            member.serialization.get("name", name) if member else name: _json(member, item) if member else item
            for member, name, item in named
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_json(shape.member, item) for item in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: _json(shape.value, item) for name, item in value.items()}
    return value if not isinstance(value, bytes) else value.decode()


def _xml(shape: Shape | None, value: Any) -> str:
    """Return the content of an element; a value of another type than its shape becomes text or nested elements."""
    written = _WRITTEN.get(id(value))
    if written is not None:
        return written
    content = _xml_content(shape, value)
    if id(value) in _NOT_WRITTEN:
        _NOT_WRITTEN.remove(id(value))
        _WRITTEN[id(value)] = content
    return content


def _xml_content(shape: Shape | None, value: Any) -> str:
    kind: Any = shape and shape.type_name
    any_shape: Any = shape
    if isinstance(value, dict):
        if kind == "map":
            pairs = [
                f"<key>{escape(name)}</key><value>{_xml(any_shape.value, item)}</value>" for name, item in value.items()
            ]
            return "".join([f"<entry>{pair}</entry>" for pair in pairs])
        members = any_shape.members if kind == "structure" else {}
        return "".join([_member(name, members.get(name), item) for name, item in value.items() if item is not None])
    if isinstance(value, list):
        name = any_shape.member.serialization.get("name", "member") if kind == "list" else "member"
        member = any_shape.member if kind == "list" else None
        return "".join([f"<{name}>{_xml(member, item)}</{name}>" for item in value])
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return escape(value.decode() if isinstance(value, bytes) else str(value))


def _member(name: str, shape: Any, value: Any) -> str:
    element = shape.serialization.get("name", name) if shape is not None else name
    if (
        shape is not None
        and shape.type_name == "list"
        and shape.serialization.get("flattened")
        and isinstance(value, list)
    ):
        element = shape.member.serialization.get("name", element)
        return "".join([f"<{element}>{_xml(shape.member, item)}</{element}>" for item in value])
    return f"<{element}>{_xml(shape, value)}</{element}>"


def call_id(operation: Operation, params: Mapping[str, Any]) -> str:
    """Identify a call by operation and subject."""
    subjects = [str(params[name]) for name, value in operation.params.items() if str(value) in SUBJECTS]
    return " ".join([str(operation), *subjects])


SUBJECTS = {"@key_arn", "@arn", "@title", "@parent", "@account_id"}


class Recorded(dict[str, Any]):
    """A structure that records which of its members are read."""

    def __init__(self, value: Mapping[str, Any], path: Path, reads: set[Path]) -> None:
        self._path, self._reads = path, reads
        super().__init__({name: recorded(item, (*path, name), reads) for name, item in value.items()})

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member."""
        self._reads.add((*self._path, name))
        return super().get(name, default)

    def __getitem__(self, name: str) -> Any:
        self._reads.add((*self._path, name))
        return super().__getitem__(name)


def recorded(value: Any, path: Path, reads: set[Path]) -> Any:
    """Return a value whose structures record what is read of them."""
    if isinstance(value, dict):
        return Recorded(value, path, reads)
    if isinstance(value, list):
        return [recorded(item, (*path, ITEM), reads) for item in value]
    return value


@dataclass(slots=True)
class WireAws:
    """Implements :class:`crawler.aws.transport_boto3.Transport`: full responses, encoded and parsed as by the real transport."""

    answer: Callable[[Operation, Mapping[str, Any]], Answer] = doubled
    changes: dict[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)
    """Changes of responses by call."""
    reads: dict[str, set[Path]] | None = None
    """If set, collects the members that are read, by call."""
    called: dict[str, tuple[Operation, Mapping[str, Any]]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    parsed: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    """Unchanged responses, which are parsed once."""
    max_seconds: float = math.inf

    async def send(
        self, credentials: Credentials, operation: Operation, region: str, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the parsed response."""
        await asyncio.sleep(0)
        call = call_id(operation, params)
        self.calls.append(call)
        self.called.setdefault(call, (operation, dict(params)))
        change = self.changes.get(call)
        key = (call, credentials.access_key, region, str(params.get("RoleArn")))
        if change is None and key in self.parsed:
            return self.parsed[key]
        answer = self.answer(operation, params)
        if callable(answer):
            answer = answer(RecordedCall(str(operation), region, params, credentials))
        if isinstance(answer, BaseException):
            raise answer
        response = parse(operation, answer if change is None else change(dict(answer)))
        if self.reads is not None:
            return Recorded(response, (), self.reads.setdefault(call, set()))
        if change is None:
            self.parsed[key] = response
        return response

    def close(self) -> None:
        """Do nothing."""


_CODECS = Codecs(botocore.session.Session())


def parse(operation: Operation, response: Any) -> dict[str, Any]:
    """Return a response after its way over the wire."""
    return _CODECS.of(operation).parse(Response(200, (), body_of(operation, response)))
