"""Who can use which key: what the access engine concluded, each distinct question once, and which conclusion a key has.

Derived from other facts: reports.access.analysis recreates it when the engine changes.
"""

from __future__ import annotations

from sqlalchemy import Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.keys import OF_KEY
from models.versioned import Base, VersionedTable


class KeyAnalysis(VersionedTable):
    """The conclusion about a key's policy. It begins with the policy, or when something else it depends on changed."""

    __tablename__ = "key_analysis"
    natural_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16))


class AccessPolicy(Base):
    """What a key policy makes an analysis look at, beside the policy itself."""

    __tablename__ = "access_policy"

    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    context_inputs: Mapped[str]
    """Words of :data:`reports.access.engine.analysis_key.CONTEXT_INPUTS`, with blanks between."""
    deny_scope: Mapped[str]
    """What its Deny statements can do to grants: one of :class:`reports.access.engine.analysis_key.DenyScope`."""


class AccessAnalysis(Base):
    """A policy was analysed for all keys that are alike, or a grant for all grants that are."""

    __tablename__ = "access_analysis"

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    path: Mapped[str]
    """``policy`` or ``grant``."""
    policy_hash: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """The policy; for a grant the key policy, where that can take something away again."""
    policy_analysis_id: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """For a grant: the analysis of that key policy."""
    engine: Mapped[str]


class AccessVerdict(Base):
    """One access path to the key. Placeholders (``{party}``, ``{grant}``, ``{conditions}`` ...) mark what grants do not share."""

    __tablename__ = "access_verdict"

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    access: Mapped[str]
    """One of reports.access.engine.model.Access; always ``external`` for foreign accounts: parties are resolved later."""
    principal: Mapped[str]
    principal_account: Mapped[str | None]
    operations: Mapped[str]
    """JSON list."""
    source_id: Mapped[str]
    statement_index: Mapped[int | None]
    conditions: Mapped[str]
    reason: Mapped[str]
    witness: Mapped[str | None]
    """JSON object: caller, account, operation, context."""
    message: Mapped[str]


class PolicyLint(Base):
    """Something about a policy that its owner would want to know."""

    __tablename__ = "policy_lint"

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    code: Mapped[str]
    source_id: Mapped[str]
    statement_index: Mapped[int | None]
    message: Mapped[str]


class AnalysisWatermark(Base):
    """How far the ledger was analysed: one row a table, with the last version that was looked at.

    ``identity`` tells whether that version is still there; ids of deleted rows can be given out again.
    """

    __tablename__ = "analysis_watermark"

    name: Mapped[str] = mapped_column(primary_key=True)
    """A table; ``estate`` and ``engine`` for the other things that were looked at, ``made`` for when all of it was made anew."""
    version_id: Mapped[int] = mapped_column(Integer)
    identity: Mapped[str]
