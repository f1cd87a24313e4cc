"""A reference implementation of the merge in plain Python. It shares no code with the merge.

Facts are kept in lists and searched linearly. Natural keys, listing keys and parents of the tables are declared again here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """The properties of one fact table."""

    natural_key: tuple[str, ...]
    listing_key: tuple[str, ...] | None = None
    """``None`` when no listing of this kind is ever complete."""
    parents: tuple[str, ...] = ()
    """Kinds of the facts whose end is its own, by their one natural column and its first one."""
    ignored: tuple[str, ...] = ()


KINDS = {
    "key": Kind(("key_arn",), ("account_id", "region")),
    "alias": Kind(("alias_arn",), ("account_id", "region")),
    "gap": Kind(
        ("account_id", "region", "service", "operation", "subject"), ("account_id", "region"), ignored=("message",)
    ),
    "resource": Kind(("resource_arn",), ("account_id", "listing_region", "resource_type")),
    "key_metadata": Kind(("key_arn",), parents=("key",)),
    "key_policy": Kind(("key_arn",), parents=("key",)),
    "key_rotation": Kind(("key_arn",), parents=("key",)),
    "key_grant": Kind(("key_arn", "grant_id"), ("key_arn",), parents=("key",)),
    "key_rotation_event": Kind(("key_arn", "rotated_at"), ("key_arn",), parents=("key",)),
    "key_reference": Kind(("resource_arn", "role", "position"), ("resource_arn",), parents=("resource",)),
    "resource_key": Kind(("resource_arn", "role", "position"), parents=("resource",)),
    "tag": Kind(("resource_arn", "tag_key"), ("resource_arn",), parents=("key", "resource")),
}
"""In the order in which a merge takes them: what parents others after what it parents."""


@dataclass
class Observed:
    """The facts and complete listings that were observed, by kind."""

    facts: list[tuple[str, Values]] = field(default_factory=list)
    complete: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)

    def extend(self, other: Observed) -> None:
        """Add other observations."""
        self.facts += other.facts
        self.complete |= other.complete


@dataclass
class Version:
    """One version of a fact."""

    kind: str
    values: Values
    valid_from: int
    valid_to: int | None = None

    @property
    def name(self) -> tuple[Any, ...]:
        """The natural key of the fact."""
        return tuple(self.values[column] for column in KINDS[self.kind].natural_key)


@dataclass
class Reference:
    """All versions of all facts."""

    versions: list[Version] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    """Rows written by the last merge."""

    def merge(self, run_id: int, observed: Observed) -> None:
        """Merge the observations of a run."""
        self.opened = self.closed = 0
        for kind in KINDS:
            self._merge(
                run_id, kind, [values for fact_kind, values in observed.facts if fact_kind == kind], observed.complete
            )

    def as_of(self, run_id: int) -> list[Version]:
        """The versions valid in a run."""
        return [
            version
            for version in self.versions
            if version.valid_from <= run_id and (version.valid_to is None or version.valid_to > run_id)
        ]

    def _merge(
        self, run_id: int, kind: str, facts: Iterable[Values], complete: set[tuple[str, tuple[Any, ...]]]
    ) -> None:
        seen = {Version(kind, values, run_id).name: Version(kind, dict(values), run_id) for values in facts}
        for known in self._open(kind):
            if known.name in seen:
                if self._content(known) != self._content(seen[known.name]):
                    self._close(run_id, known)
            elif (kind, self._listing(known)) in complete:
                self._close(run_id, known)
                self._close_children(run_id, known)
        still = {known.name for known in self._open(kind)}
        for name, version in seen.items():
            if name not in still:
                self.versions.append(version)
                self.opened += 1

    def _open(self, kind: str) -> list[Version]:
        return [version for version in self.versions if version.kind == kind and version.valid_to is None]

    def _content(self, version: Version) -> Values:
        return {name: value for name, value in version.values.items() if name not in KINDS[version.kind].ignored}

    def _listing(self, version: Version) -> tuple[Any, ...] | None:
        listing_key = KINDS[version.kind].listing_key
        return None if listing_key is None else tuple(version.values[column] for column in listing_key)

    def _close(self, run_id: int, version: Version) -> None:
        self.closed += 1
        if version.valid_from == run_id:
            self.versions.remove(version)
        else:
            version.valid_to = run_id

    def _close_children(self, run_id: int, parent: Version) -> None:
        for kind, rules in KINDS.items():
            if parent.kind in rules.parents:
                for known in self._open(kind):
                    if known.name[0] == parent.name[0]:
                        self._close(run_id, known)
