"""Results of the rules: problems with their history, and counts per status."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class Finding(VersionedTable):
    """The result of a rule for a resource that is or was a problem (fail, unknown, waived), with the reason.

    A resource that always passed has no row. A resource that passes again keeps its row, so that its history is complete.
    Each row is a listing of its own: only an evaluation that reports the resource as deleted closes it.
    """

    natural_key = ("rule_id", "resource_arn")
    listing_key = ("rule_id", "resource_arn")

    rule_id: Mapped[str]
    resource_arn: Mapped[str]
    account_id: Mapped[str | None]
    region: Mapped[str | None]
    key_arn: Mapped[str | None]
    severity: Mapped[str]
    status: Mapped[str]
    """pass, fail, unknown, not_applicable or waived."""
    unwaived_status: Mapped[str]
    """The status without waivers."""
    waiver: Mapped[str | None]
    """The ID of the applied waiver."""
    reason: Mapped[str]


class RuleResult(VersionedTable):
    """Numbers of resources by status, per rule, account and region; '' if the rule returns no account or region."""

    natural_key = ("rule_id", "account_id", "region")
    listing_key = ("rule_id", "account_id", "region")

    rule_id: Mapped[str]
    account_id: Mapped[str]
    region: Mapped[str]
    passed: Mapped[int]
    failed: Mapped[int]
    unknown: Mapped[int]
    not_applicable: Mapped[int]
    waived: Mapped[int]
