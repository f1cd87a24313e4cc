"""Verdicts of the rules."""

from __future__ import annotations

from sqlalchemy.orm import Mapped

from models.base import Facet


class Finding(Facet):
    """What a rule says of one resource: pass, fail, unknown or not_applicable, with the reason."""

    __tablename__ = "finding"
    natural = ("rule_id", "resource_arn")
    cover = ("rule_id",)

    rule_id: Mapped[str]
    resource_arn: Mapped[str]
    account_id: Mapped[str | None]
    region: Mapped[str | None]
    key_arn: Mapped[str | None]
    severity: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str]
