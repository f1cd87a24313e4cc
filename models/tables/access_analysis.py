"""Results of the access analysis: each distinct policy or grant is analyzed once, and keys refer to their analysis.

Derived from other facts: reports.access.analysis recreates the rows when the engine changes.
"""

from __future__ import annotations

from sqlalchemy import Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.keys import OF_KEY
from models.versioned import Base, VersionedTable


class KeyAnalysis(VersionedTable):
    """The analysis of a key's policy. A version starts with a new policy or a change of another input of the analysis."""

    natural_key = ("key_arn",)
    parents = OF_KEY

    key_arn: Mapped[str]
    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16))


class AccessPolicy(Base):
    """The further inputs that an analysis of a key policy depends on."""

    policy_hash: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    context_inputs: Mapped[str]
    """Values of :func:`reports.access.engine.analysis_key.context_inputs`, separated by spaces."""
    deny_scope: Mapped[str]
    """What its Deny statements can do to grants: one of :class:`reports.access.engine.analysis_key.DenyScope`."""


class AccessAnalysis(Base):
    """One analysis of a policy, shared by equivalent keys, or of a grant, shared by equivalent grants."""

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    path: Mapped[str]
    """``policy`` or ``grant``."""
    policy_hash: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """The policy; for a grant, the key policy if its Deny statements can restrict the grant."""
    policy_analysis_id: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    """For a grant: the analysis of that key policy."""
    engine: Mapped[str]


class AccessVerdict(Base):
    """One access path to the key. Placeholders (``{party}``, ``{grant}``, ``{conditions}`` ...) mark what grants do not share."""

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    access: Mapped[str]
    """One of reports.access.engine.model.Access; always ``external`` for other accounts: parties are resolved at query time."""
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
    """A lint message about a policy."""

    analysis_id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True)
    code: Mapped[str]
    source_id: Mapped[str]
    statement_index: Mapped[int | None]
    message: Mapped[str]


class AnalysisWatermark(Base):
    """How far the ledger has been analyzed: one row per table, with the last analyzed version.

    ``identity`` detects a deleted version, whose ID can be reused.
    """

    name: Mapped[str] = mapped_column(primary_key=True)
    """A table name, or ``organization`` and ``engine`` for the other inputs, or ``rebuilt`` for the last full analysis."""
    version_id: Mapped[int] = mapped_column(Integer)
    identity: Mapped[str]
