"""The delivery log: each recipient gets a report once per run, whatever interrupts the delivery.

A recipient is claimed in a committed transaction before anything is sent, and its outcome is committed as soon as it is known. A
process that is killed in between leaves the claim, status `sending`: whether the report arrived is unknown, so it is not sent
again unless a user asks for it. The claim also excludes a second process that delivers the same report.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from models.store.engine import translate_errors
from models.tables.runs import Delivery
from reports.notify.result import Outcome, OutcomeStatus

RETRIED: OutcomeStatus = "failed"
"""The only status that is retried automatically: nothing was delivered."""


@dataclass(frozen=True)
class Entry:
    """The last known state of a delivery; `at` is in UTC."""

    status: OutcomeStatus
    detail: str
    at: dt.datetime


class DeliveryLog:
    """The deliveries of a report of a run."""

    def __init__(self, engine: Engine, run_id: int, report: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._report = report

    def entries(self, run_id: int | None = None) -> Mapping[str, Entry]:
        """The entries by recipient, of this run or another one."""
        query = select(_TABLE.c.recipient, _TABLE.c.status, _TABLE.c.detail, _TABLE.c.sent_at).where(
            _TABLE.c.run_id == (self._run_id if run_id is None else run_id), _TABLE.c.report == self._report
        )
        with translate_errors(self._engine), self._engine.connect() as connection:
            return {row.recipient: Entry(row.status, row.detail, row.sent_at) for row in connection.execute(query)}

    def claim(self, recipient: str, *, resend: bool = False) -> bool:
        """Claim a recipient, and commit the claim; returns False if there is an entry already.

        With `resend`, an entry is replaced whatever its status.
        """
        replaced = self._key(recipient) if resend else and_(self._key(recipient), _TABLE.c.status == RETRIED)
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        claim = dialect.insert(_TABLE).values(self._values(Outcome(recipient, "sending", ""))).on_conflict_do_nothing()
        with translate_errors(self._engine), self._engine.begin() as connection:
            connection.execute(delete(_TABLE).where(replaced))
            return connection.execute(claim.returning(_TABLE.c.recipient)).first() is not None

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of a claimed recipient in place of the claim, and commit it."""
        with translate_errors(self._engine), self._engine.begin() as connection:
            connection.execute(delete(_TABLE).where(self._key(outcome.recipient)))
            connection.execute(insert(_TABLE).values(self._values(outcome)))

    def _key(self, recipient: str) -> ColumnElement[bool]:
        return and_(_TABLE.c.run_id == self._run_id, _TABLE.c.report == self._report, _TABLE.c.recipient == recipient)

    def _values(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "run_id": self._run_id,
            "report": self._report,
            "recipient": outcome.recipient,
            "status": outcome.status,
            "detail": outcome.detail,
            "sent_at": dt.datetime.now(dt.UTC),
        }


_TABLE: Final = Delivery.table()
