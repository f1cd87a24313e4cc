"""Errors of the metrics."""

from models.errors import UserError


class MetricsError(UserError):
    """The metrics in the settings cannot be written or sent."""

    exit_code = 2
