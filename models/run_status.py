"""The status of a run. This module does not load SQLAlchemy, which readers of the mart do not need."""

from enum import StrEnum


class RunStatus(StrEnum):
    """The status of a run."""

    RUNNING = "running"
    COMPLETE = "complete"
    PARTIAL = "partial"
    """Finished with gaps."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PRUNED = "pruned"
    """Kept only because a validity interval references it; its data is incomplete."""
