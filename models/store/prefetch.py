"""Parallel prefetch of database pages: a merge reads rows one by one, but a disk serves many reads at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection

from models.store.staging import MANY
from models.versioned import VersionedTable

_READERS = 8
"""Reads at once; the processors are idle meanwhile."""
_ROWS_PER_QUERY = 1000


def prefetch_pages(connection: Connection, model: type[VersionedTable], keys: Sequence[tuple[str, ...]]) -> int:
    """Load the current versions of the facts with these natural keys into the page cache; returns the number of rows read.

    Does nothing for PostgreSQL, which has its own cache, and for small batches. Only speed depends on it, so sqlite3.Error
    is ignored.
    """
    path = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not path or len(keys) < MANY:
        return 0
    table = model.table().name
    matches = " AND ".join(f't."{column}" = k.value ->> {index}' for index, column in enumerate(model.natural_key))
    query = f'SELECT count(t.content_hash) FROM json_each(?) k CROSS JOIN "{table}" t WHERE t.valid_to IS NULL AND {matches}'
    # Each reader reads neighbouring entries of the index.
    ordered = sorted(keys)
    batches = [ordered[start : start + _ROWS_PER_QUERY] for start in range(0, len(ordered), _ROWS_PER_QUERY)]
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"

    def read(batch: Sequence[tuple[str, ...]]) -> int:
        try:
            with closing(sqlite3.connect(uri, uri=True)) as reader:
                rows: int = reader.execute(query, (json.dumps(batch),)).fetchone()[0]
                return rows
        except sqlite3.Error:
            return 0

    with ThreadPoolExecutor(_READERS) as readers:
        return sum(readers.map(read, batches))
