"""The outcome of a delivery."""

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
    """Nothing more can be delivered. The outcome of each recipient has been passed to `on_outcome`."""
