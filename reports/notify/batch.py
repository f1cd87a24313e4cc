"""The mails of a delivery: each outcome is reported immediately, so that the caller can commit it before the next mail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from reports.notify.result import DeliveryError, Outcome


class Batch:
    """The recipients without an outcome, and the outcomes so far."""

    def __init__(self, recipients: Sequence[str], on_outcome: Callable[[Outcome], None]) -> None:
        self._pending = list(recipients)
        self._on_outcome = on_outcome
        self.outcomes: list[Outcome] = []

    def run(self, deliver: Callable[[str], Outcome], claim: Callable[[str], bool]) -> None:
        """Deliver to each recipient that the claim accepts."""
        for recipient in tuple(self._pending):
            if claim(recipient):
                self.record(deliver(recipient))
            else:
                self._pending.remove(recipient)

    def record(self, outcome: Outcome) -> None:
        """Report an outcome."""
        self._pending.remove(outcome.recipient)
        self.outcomes.append(outcome)
        self._on_outcome(outcome)

    def fail(self, message: str) -> NoReturn:
        """Record the remaining recipients as failed, and raise DeliveryError."""
        for recipient in tuple(self._pending):
            self.record(Outcome(recipient, "failed", message))
        raise DeliveryError(message) from None

    @property
    def none_accepted(self) -> bool:
        """Whether every outcome is a failure or a rejection."""
        return bool(self.outcomes) and not any(outcome.status in {"sent", "unknown"} for outcome in self.outcomes)
