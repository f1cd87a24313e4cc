"""What becomes of a mail, whichever way it is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.errors import UserError

OutcomeStatus = Literal["sent", "rejected", "failed", "unknown"]


@dataclass(frozen=True)
class Outcome:
    """What became of the mail to one recipient.

    sent: the server accepted it. rejected: the server refuses this recipient or this content for good. failed: not
    delivered; sending it again later is safe. unknown: the connection broke after the whole mail was handed over and
    before the server answered, so that sending it again may deliver it twice.
    """

    recipient: str
    status: OutcomeStatus
    detail: str


class DeliveryError(UserError):
    """Mail could not be delivered. `outcomes` holds one outcome a recipient; each was also passed to `on_outcome`."""

    def __init__(self, message: str, outcomes: Sequence[Outcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)
