"""Severities of findings. This module imports nothing, because `--help` needs it and must be fast."""

SEVERITIES = ("critical", "high", "medium", "low", "info")
"""From the highest to the lowest."""
THRESHOLDS = (*SEVERITIES, "never")
"""Values of the threshold from which failures make a command exit with code 1."""
