"""JSON Schema validators. jsonschema compiles forty grammars when it is imported, which costs each test process seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def draft_4(schema: dict[str, Any]) -> Validator:
    """Return a validator for a schema of draft 4."""
    from jsonschema import Draft4Validator

    return Draft4Validator(schema)


def draft_2020_12(schema: dict[str, Any]) -> Validator:
    """Return a validator for a schema of draft 2020-12."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)
