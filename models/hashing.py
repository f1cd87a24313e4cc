"""Canonical JSON and content hashes, which are equal for equal values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson


def canonical_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no white space, times in ISO 8601; equal for equal values."""
    return _encoded(value).decode()


def content_hash(value: Any) -> bytes:
    """A 16-byte hash of a value: BLAKE2b over :func:`canonical_json`."""
    return hashlib.blake2b(_encoded(value), digest_size=16).digest()


def storable(value: str) -> str:
    """Text that both engines can store: NUL (rejected by PostgreSQL) and lone surrogates become U+FFFD."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _encoded(value: Any) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, option=options)
    except orjson.JSONEncodeError:
        return orjson.dumps(_all_storable(value), option=options)


def _all_storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_all_storable(key): _all_storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_all_storable(item) for item in value]
    return value
