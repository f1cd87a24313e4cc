"""The outcome of sending a mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import UserError

OutcomeStatus = Literal["sent", "rejected", "failed", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of the mail to one recipient.

    sent: the server accepted it. rejected: the server permanently rejected the recipient or the content. failed: not delivered;
    a retry is safe. unknown: the connection broke after the whole mail was transferred, but before the server replied; a retry
    may deliver it twice.
    """

    recipient: str
    status: OutcomeStatus
    detail: str


class DeliveryError(UserError):
    """Mail could not be delivered. `outcomes` has one outcome per recipient, each already passed to `on_outcome`."""

    def __init__(self, message: str, outcomes: Sequence[Outcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)
