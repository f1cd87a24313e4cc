"""Reading ahead: a merge looks rows up one after another, where a disk answers many questions in the time of one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection

from models.store.staging import MANY
from models.versioned import VersionedTable

_READERS = 8
"""Questions to the disk at once: the processors are idle meanwhile."""
_TOGETHER = 1000
"""Rows that are asked for in one statement."""


def prefetch_pages(connection: Connection, model: type[VersionedTable], keys: Sequence[tuple[str, ...]]) -> int:
    """Have the system's cache hold the last known versions of the facts with these natural keys; how many were read.

    For SQLite only (0 otherwise): PostgreSQL keeps a cache of its own. Of few keys none is read. Nothing depends on it but
    time, so a database that cannot be opened a second time is not read ahead (sqlite3.Error is swallowed).
    """
    path = connection.engine.url.database
    if connection.dialect.name != "sqlite" or not path or len(keys) < MANY:
        return 0
    table = model.table().name
    matches = " AND ".join(f't."{column}" = k.value ->> {place}' for place, column in enumerate(model.natural_key))
    query = f'SELECT count(t.content) FROM json_each(?) k CROSS JOIN "{table}" t WHERE t.valid_to IS NULL AND {matches}'
    # Neighbours in the index are read by the same reader.
    ordered = sorted(keys)
    slices = [ordered[start : start + _TOGETHER] for start in range(0, len(ordered), _TOGETHER)]
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"

    def read(some: Sequence[tuple[str, ...]]) -> int:
        try:
            reader = sqlite3.connect(uri, uri=True)
            try:
                found: int = reader.execute(query, (json.dumps(some),)).fetchone()[0]
                return found
            finally:
                reader.close()
        except sqlite3.Error:
            return 0

    with ThreadPoolExecutor(_READERS) as readers:
        return sum(readers.map(read, slices))
