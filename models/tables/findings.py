"""Verdicts of the rules: problems with their history, and how many of everything there were."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from models.versioned import VersionedTable


class Finding(VersionedTable):
    """What a rule says of one resource that is, or ever was, a problem (fail, unknown, waived), with the reason.

    A resource that always passed has no row; one that passes again has, so that its history tells when. Each row is a
    listing of its own: only a judgement that names the resource as gone ends it.
    """

    __tablename__ = "finding"
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
    verdict: Mapped[str]
    """The rule's own word: what the status would be without waivers."""
    waiver: Mapped[str | None]
    """The id of the waiver that was applied."""
    reason: Mapped[str]


class RuleResult(VersionedTable):
    """How many resources of an account and region had which status under a rule; '' where a rule names no place."""

    __tablename__ = "rule_result"
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
