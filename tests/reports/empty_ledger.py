"""Empty ledgers for tests, with one migration per test run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from models.store.engine import connect, upgrade
from tests.made_once import shared_file


def create_ledger(url: str) -> None:
    """Create the tables. A new SQLite file is a copy of one that the test run has migrated before."""
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

    def migrate(file: Path) -> None:
        engine = connect(f"sqlite:///{file}")
        upgrade(engine)
        engine.dispose()

    return shared_file("empty-ledger.db", migrate)
