"""Severities of findings. This module imports nothing, because `--help` needs it and must be fast."""

SEVERITIES = ("critical", "high", "medium", "low", "info")
"""From the highest to the lowest."""
THRESHOLDS = (*SEVERITIES, "never")
"""Values of the threshold from which failures make a command exit with code 1."""

STATUSES = ("fail", "unknown", "pass", "not_applicable")
"""The results that a rule can have, as they are listed. A failure that a waiver accepts is ``waived`` afterwards."""
