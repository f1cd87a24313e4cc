"""How grave a finding is. Nothing is imported here: the command's help needs it, and must be quick."""

SEVERITIES = ("critical", "high", "medium", "low", "info")
"""The gravest first."""
THRESHOLDS = (*SEVERITIES, "never")
"""From which severity on findings end a command with exit code 1."""
