"""Phrases that several answers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.answers.change_event import format_account_region

UNEVALUATED_POLICIES = (
    "Service control policies (outside the management account), resource control policies, session policies and VPC endpoint "
    "policies are not evaluated: they can remove access that is listed here, but cannot add any."
)
UNREAD_DENIALS = (
    "Service control policies, resource control policies, session policies and VPC endpoint policies are not read: each can "
    "deny a call again that the statement allows."
)


def counted(number: int, noun: str) -> str:
    """A number with a noun, such as `1 key` and `2,000 keys`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def and_more(names: Sequence[str], total: int | None = None, limit: int | None = None) -> str:
    """Names, at most ``limit`` of them, and how many more there are in total."""
    shown = names[:limit]
    hidden = (len(names) if total is None else total) - len(shown)
    return f"{', '.join(shown)}{f' and {hidden} more' if hidden > 0 else ''}"


def describe_key(row: Mapping[str, Any]) -> str:
    """A key with its alias, its account and region, and its state if it is not enabled."""
    alias = f" ({row['key_alias']})" if row["key_alias"] else ""
    state = f", state {row['key_state']}" if row["key_state"] not in {None, "Enabled"} else ""
    return f"{row['key_arn']}{alias} in {format_account_region(row['account_id'], row['account_name'], row['region'])}{state}"
