"""The delivery log: records every mail, so that each recipient gets a report once per run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import Engine, delete, insert, select

from models.store.engine import translate_errors
from models.tables.runs import Delivery
from reports.notify.result import Outcome

SETTLED = frozenset({"sent", "rejected", "unknown"})
"""Statuses without an automatic retry: delivered, permanently rejected, or possibly delivered."""


def pending_recipients(engine: Engine, run_id: int, report: str, recipients: Iterable[str]) -> list[str]:
    """The recipients to whom this report of this run was not sent yet, in the given order."""
    table = Delivery.metadata.tables[Delivery.__tablename__]
    query = select(table.c.recipient).where(
        table.c.run_id == run_id, table.c.report == report, table.c.status.in_(SETTLED)
    )
    with translate_errors(engine), engine.connect() as connection:
        settled = set(connection.scalars(query))
    return [recipient for recipient in recipients if recipient not in settled]


def record_delivery(engine: Engine, run_id: int, report: str, outcome: Outcome) -> None:
    """Record the outcome of the mail to one recipient, and commit it."""
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
