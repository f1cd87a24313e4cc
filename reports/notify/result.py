"""The outcome of a delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import UserError

OutcomeStatus = Literal["sent", "skipped", "rejected", "failed", "unknown", "sending"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of the delivery to one recipient.

    sent: accepted. skipped: nothing changed, and the recipient wants changes only. rejected: the recipient or the content was
    permanently rejected. failed: not delivered; a retry is safe. unknown: the connection broke after everything was
    transferred, but before there was a reply; a retry may deliver it twice. sending: claimed, without an outcome yet; that
    remains of a process that was killed.
    """

    recipient: str
    status: OutcomeStatus
    detail: str


class DeliveryError(UserError):
    """Nothing more can be delivered. `outcomes` has one outcome per recipient, each already passed to `on_outcome`."""

    def __init__(self, message: str, outcomes: Sequence[Outcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)
