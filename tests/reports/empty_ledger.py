"""Empty ledgers for tests, with one migration per process."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from models.store.engine import connect, upgrade


def create_ledger(url: str) -> None:
    """Create the tables. A new SQLite file is a copy of one that this process has migrated before."""
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        file.write_bytes(_empty_ledger())
        return
    engine = connect(url)
    upgrade(engine)
    engine.dispose()


@cache
def _empty_ledger() -> bytes:
    """A SQLite file with the tables and no rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        engine = connect(f"sqlite:///{file}")
        upgrade(engine)
        engine.dispose()
        return file.read_bytes()
