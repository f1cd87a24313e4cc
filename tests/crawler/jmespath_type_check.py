"""Type-checks JMESPath expressions against botocore's shapes, and generates responses from shapes."""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import botocore.session
import jmespath
from botocore.model import OperationModel, Shape

from crawler.services.resource_types import RESOURCE_TYPES
from crawler.spec import Operation

TIMESTAMP = dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC)
SCALARS = {"string", "boolean", "number", "timestamp", "blob"}


class UnresolvedError(Exception):
    """A path does not resolve."""


@dataclass(frozen=True)
class Kind:
    """The type of an expression: ``structure``, ``list``, ``map``, ``null`` or a scalar."""

    name: str
    shape: Any = None
    member: Kind | None = None

    def __str__(self) -> str:
        return f"list of {self.member}" if self.name == "list" else self.name


STRING, BOOLEAN, NULL = Kind("string"), Kind("boolean"), Kind("null")
_SIMPLE = {"character": "string", "integer": "number", "long": "number", "float": "number", "double": "number"}
_FUNCTIONS = {"to_string": ((None,), STRING), "join": (("string", "list of string"), STRING)}


@functools.cache
def session() -> Any:
    """Return a botocore session, used for its service models only."""
    return botocore.session.get_session()


@functools.cache
def model_of(service: str, name: str) -> OperationModel:
    """Return the model of an operation; raises :class:`UnresolvedError` if there is none."""
    try:
        model: OperationModel = session().get_service_model(service).operation_model(name)
    except (botocore.exceptions.UnknownServiceError, botocore.model.OperationNotFoundError) as error:
        raise UnresolvedError(str(error)) from error
    return model


def kind_of(shape: Shape | None) -> Kind:
    """Return the kind of a shape."""
    if shape is None:
        return NULL
    name = _SIMPLE.get(shape.type_name, shape.type_name)
    if name == "list":
        return Kind("list", shape, kind_of(shape.member))  # type: ignore[attr-defined]  # a list shape has it
    return Kind(name, shape)


def items_kind(operation: Operation) -> Kind:
    """Return the kind of one item of an operation's response."""
    response = kind_of(model_of(operation.service, operation.name).output_shape)
    if not operation.items:
        return response
    items = resolve(operation.items, response)
    return items.member if items.name == "list" and items.member else items


def resolve(path: str, start: Kind) -> Kind:
    """Return the kind of a JMESPath expression; raises :class:`UnresolvedError` with the failing step."""
    return _follow(jmespath.compile(path).parsed, start)


def _follow(node: Mapping[str, Any], at: Kind) -> Kind:
    handler = _NODES.get(node["type"])
    if handler is None:
        raise UnresolvedError(f"expressions of type {node['type']} are not supported by this test: add them")
    kind: Kind = handler(node, at)
    return kind


def _field(node: Mapping[str, Any], at: Kind) -> Kind:
    if at.name == "map":
        return kind_of(at.shape.value)
    if at.name != "structure":
        raise UnresolvedError(f"{node['value']} is selected from a {at}")
    if node["value"] not in at.shape.members:
        raise UnresolvedError(f"{at.shape.name} has no member {node['value']}")
    return kind_of(at.shape.members[node["value"]])


def _chain(node: Mapping[str, Any], at: Kind) -> Kind:
    return functools.reduce(lambda reached, child: _follow(child, reached), node["children"], at)


def _index(_node: Mapping[str, Any], at: Kind) -> Kind:
    return _member(at)


def _flatten(node: Mapping[str, Any], at: Kind) -> Kind:
    inner = _follow(node["children"][0], at)
    member = _member(inner)
    return member if member.name == "list" else inner


def _projection(node: Mapping[str, Any], at: Kind) -> Kind:
    left, right, *condition = node["children"]
    member = _member(_follow(left, at))
    for expression in condition:
        _follow(expression, member)
    return Kind("list", member=_follow(right, member))


def _either(node: Mapping[str, Any], at: Kind) -> Kind:
    left, right = (_follow(child, at) for child in node["children"])
    if left.name != right.name:
        raise UnresolvedError(f"|| joins a {left} and a {right}")
    return left


def _boolean(node: Mapping[str, Any], at: Kind) -> Kind:
    for child in node["children"]:
        _follow(child, at)
    return BOOLEAN


def _function(node: Mapping[str, Any], at: Kind) -> Kind:
    if node["value"] not in _FUNCTIONS:
        raise UnresolvedError(f"the function {node['value']} is not supported by this test: add it")
    parameters, result = _FUNCTIONS[node["value"]]
    arguments = [_follow(child, at) for child in node["children"]]
    if len(arguments) != len(parameters) or any(
        expected not in {None, str(actual)} for expected, actual in zip(parameters, arguments, strict=True)
    ):
        raise UnresolvedError(f"{node['value']} is called with {', '.join(map(str, arguments))}")
    return result


def _literal(node: Mapping[str, Any], _at: Kind) -> Kind:
    value = node["value"]
    names = ((bool, "boolean"), (str, "string"), (int | float, "number"), (type(None), "null"))
    return Kind(next(name for types, name in names if isinstance(value, types)))


def _multi_select(node: Mapping[str, Any], at: Kind) -> Kind:
    kinds = {str(kind): kind for kind in (_follow(child, at) for child in node["children"])}
    if len(kinds) != 1:
        raise UnresolvedError(f"a list of {' and '.join(kinds)}")
    return Kind("list", member=next(iter(kinds.values())))


def _multi_select_hash(node: Mapping[str, Any], at: Kind) -> Kind:
    members = {pair["value"]: _follow(pair["children"][0], at) for pair in node["children"]}
    shapes = {name: kind.shape for name, kind in members.items()}
    return Kind("structure", SimpleNamespace(name=" ".join(members), type_name="structure", members=shapes))


def _member(at: Kind) -> Kind:
    if at.name != "list" or at.member is None:
        raise UnresolvedError(f"an item is selected from a {at}")
    return at.member


_NODES = {
    "field": _field,
    "subexpression": _chain,
    "index_expression": _chain,
    "pipe": _chain,
    "identity": lambda _node, at: at,
    "current": lambda _node, at: at,
    "index": _index,
    "flatten": _flatten,
    "projection": _projection,
    "filter_projection": _projection,
    "or_expression": _either,
    "and_expression": _boolean,
    "not_expression": _boolean,
    "comparator": _boolean,
    "function_expression": _function,
    "literal": _literal,
    "multi_select_list": _multi_select,
    "multi_select_dict": _multi_select_hash,
}


def member_names(shape: Shape | None, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of all members below a shape."""
    kind = kind_of(shape)
    if shape is None or shape.name in seen:
        return
    if kind.name == "structure":
        for name, member in kind.shape.members.items():
            yield name
            yield from member_names(member, seen | {shape.name})
    elif kind.name == "list":
        yield from member_names(kind.shape.member, seen | {shape.name})


VALUES = {
    "BucketRegion": "eu-west-1",
    "HomeRegion": "eu-west-1",
    "KeyManager": "CUSTOMER",
    "KeySpec": "SYMMETRIC_DEFAULT",
    "Origin": "AWS_KMS",
    "KMSMasterKeyID": "alias/made/up",
    "Policy": json.dumps({"Version": "2012-10-17", "Statement": []}),
    "AssumeRolePolicyDocument": quote(json.dumps({"Version": "2012-10-17", "Statement": []})),
    "DefaultVersionId": "v3",
    "VersionId": "v3",
    "KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "KeyArn": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "TargetKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab",
    "AliasName": "alias/made-up",
    "AliasArn": "arn:aws:kms:eu-west-1:111122223333:alias/made-up",
    "PolicyArn": "arn:aws:iam::111122223333:policy/made-up",
    "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/made-up",
}
"""Values that decide which calls follow or how the response is parsed."""
MAP_KEYS = {"key"} | {name for kind in RESOURCE_TYPES for key in kind.keys for name in re.findall(r"\w+", key.path)}
"""Keys of the maps in a response: the service models define none, so the declared paths supply them."""


def full_response(operation: Operation) -> dict[str, Any]:
    """Return a single-page response in which every member has a value."""
    shape = model_of(operation.service, operation.name).output_shape
    response = _value(shape, "", operation, frozenset())
    if operation.paging:
        response.pop(operation.paging.receive, None)
        if operation.paging.more:
            response[operation.paging.more] = False
    full: dict[str, Any] = response
    return full


def _value(shape: Any, name: str, operation: Operation, seen: frozenset[str]) -> Any:
    kind = kind_of(shape)
    if kind.name == "structure":
        deeper = seen | {shape.name}
        members = shape.members.items()
        return {key: _value(member, key, operation, deeper) for key, member in members if member.name not in seen}
    if kind.name == "list":
        return [_value(shape.member, name, operation, seen)]
    if kind.name == "map":
        return {key: _value(shape.value, key, operation, seen) for key in MAP_KEYS}
    return {
        "string": VALUES.get(name) or _text(shape, name, operation),
        "timestamp": TIMESTAMP,
        "boolean": True,
        "number": max(7, int(shape.metadata.get("min", 7))),
        "blob": b"seven",
    }[kind.name]


def _text(shape: Shape, name: str, operation: Operation) -> str:
    if getattr(shape, "enum", None):
        return str(shape.enum[0])  # type: ignore[attr-defined]  # checked above
    if re.search(r"kms.*key", name, re.IGNORECASE):
        return "1234abcd-12ab-34cd-56ef-1234567890ab"
    if name.lower().endswith("arn"):
        return f"arn:aws:{operation.service}:eu-west-1:111122223333:{operation.name}/{name}"
    return f"{operation.name}-{name}"
