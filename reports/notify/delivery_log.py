"""The books of delivery: what was sent to whom, so that a report is sent once per run and recipient."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import Engine, delete, insert, select

from models.store.engine import translate_errors
from models.tables.runs import Delivery
from reports.notify.result import Outcome

SETTLED = frozenset({"sent", "rejected", "unknown"})
"""Not to be tried again by itself: done, refused for good, or possibly done."""


def due(engine: Engine, run_id: int, report: str, recipients: Iterable[str]) -> list[str]:
    """The recipients who are still to have this report of this run, in their order."""
    table = Delivery.metadata.tables[Delivery.__tablename__]
    query = select(table.c.recipient).where(
        table.c.run_id == run_id, table.c.report == report, table.c.status.in_(SETTLED)
    )
    with translate_errors(engine), engine.connect() as connection:
        settled = set(connection.scalars(query))
    return [recipient for recipient in recipients if recipient not in settled]


def enter(engine: Engine, run_id: int, report: str, outcome: Outcome) -> None:
    """Write down what became of one recipient's mail, at once."""
    table = Delivery.metadata.tables[Delivery.__tablename__]
    values = {
        "run_id": run_id,
        "report": report,
        "recipient": outcome.recipient,
        "status": outcome.status,
        "detail": outcome.detail,
        "sent_at": dt.datetime.now(dt.UTC),
    }
    with translate_errors(engine), engine.begin() as connection:
        connection.execute(
            delete(table).where(
                table.c.run_id == run_id, table.c.report == report, table.c.recipient == outcome.recipient
            )
        )
        connection.execute(insert(table).values(values))
