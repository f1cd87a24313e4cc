"""Replaces the names and e-mail addresses of accounts, for a copy of the ledger that leaves the organization."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table

_KEY = "redacted"
NAME = {_KEY: "name"}
"""Marks a column (Column.info) whose text is replaced as a whole."""
PATH = {_KEY: "path"}
"""Marks a column with names separated by slashes, each of which is replaced."""

Rows = Iterator[Sequence[Any]]


def redactor() -> Callable[[Table, Rows], Rows]:
    """A function that replaces the marked columns in the rows of a table.

    Equal texts get equal pseudonyms, so that a renamed account is still recognized as renamed. They are keyed with a random
    value that is not kept: nobody can find a name by trying names, or compare two copies.
    """
    key = secrets.token_bytes(32)

    def pseudonym(name: str) -> str:
        return f"redacted-{hashlib.blake2b(name.encode(errors='surrogatepass'), key=key, digest_size=6).hexdigest()}"

    def replaced(text: Any, form: str | None) -> Any:
        if form is None or not text:
            return text
        if form == NAME[_KEY]:
            return pseudonym(text)
        return "/".join(part and pseudonym(part) for part in text.split("/"))

    def redact(table: Table, chunks: Rows) -> Rows:
        forms = [column.info.get(_KEY) for column in table.columns]
        if not any(forms):
            return chunks
        return ([tuple(map(replaced, row, forms)) for row in rows] for rows in chunks)

    return redact
