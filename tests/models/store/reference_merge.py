"""The history as plain Python keeps it: what the merge's SQL is compared with. It shares no code with the merge.

Facts are kept in lists and looked through one by one; which columns identify a fact, which listing would have shown it and
what it describes is written down here a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What is to be known of one kind of fact."""

    natural_key: tuple[str, ...]
    listing_key: tuple[str, ...] | None = None
    """``None`` when no listing of this kind is ever complete."""
    describes: tuple[str, ...] = ()
    """Kinds of the facts whose end is its own, by their one natural column and its first one."""
    ignored: tuple[str, ...] = ()


KINDS = {
    "key": Kind(("key_arn",), ("account_id", "region")),
    "alias": Kind(("alias_arn",), ("account_id", "region")),
    "gap": Kind(
        ("account_id", "region", "service", "operation", "subject"), ("account_id", "region"), ignored=("message",)
    ),
    "resource": Kind(("resource_arn",), ("account_id", "listed_in", "resource_type")),
    "key_metadata": Kind(("key_arn",), describes=("key",)),
    "key_policy": Kind(("key_arn",), describes=("key",)),
    "key_rotation": Kind(("key_arn",), describes=("key",)),
    "key_grant": Kind(("key_arn", "grant_id"), ("key_arn",), describes=("key",)),
    "key_rotation_event": Kind(("key_arn", "rotated_at"), ("key_arn",), describes=("key",)),
    "key_reference": Kind(("resource_arn", "role", "position"), ("resource_arn",), describes=("resource",)),
    "key_usage": Kind(("resource_arn", "role", "position"), describes=("resource",)),
    "tag": Kind(("resource_arn", "tag_key"), ("resource_arn",), describes=("key", "resource")),
}
"""In the order in which a merge takes them: what describes others after what it describes."""


@dataclass
class Learned:
    """What one look taught: facts by kind, and the complete listings."""

    facts: list[tuple[str, Values]] = field(default_factory=list)
    complete: set[tuple[str, tuple[Any, ...]]] = field(default_factory=set)

    def extend(self, other: Learned) -> None:
        """Add another look."""
        self.facts += other.facts
        self.complete |= other.complete


@dataclass
class Version:
    """One fact from one run to another."""

    kind: str
    values: Values
    begun: int
    ended: int | None = None

    @property
    def name(self) -> tuple[Any, ...]:
        """What identifies the fact."""
        return tuple(self.values[column] for column in KINDS[self.kind].natural_key)


@dataclass
class Reference:
    """All versions of all facts."""

    versions: list[Version] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    """Rows written by the last merge."""

    def merge(self, run_id: int, learned: Learned) -> None:
        """Take in what a run has learned."""
        self.opened = self.closed = 0
        for kind in KINDS:
            self._merge(run_id, kind, [values for one, values in learned.facts if one == kind], learned.complete)

    def as_of(self, run_id: int) -> list[Version]:
        """The versions that this run knew."""
        return [one for one in self.versions if one.begun <= run_id and (one.ended is None or one.ended > run_id)]

    def _merge(
        self, run_id: int, kind: str, facts: Iterable[Values], complete: set[tuple[str, tuple[Any, ...]]]
    ) -> None:
        seen = {Version(kind, values, run_id).name: Version(kind, dict(values), run_id) for values in facts}
        for known in self._open(kind):
            if known.name in seen:
                if self._told(known) != self._told(seen[known.name]):
                    self._end(run_id, known)
            elif (kind, self._cover(known)) in complete:
                self._end(run_id, known)
                self._end_what_describes(run_id, known)
        still = {known.name for known in self._open(kind)}
        for name, version in seen.items():
            if name not in still:
                self.versions.append(version)
                self.opened += 1

    def _open(self, kind: str) -> list[Version]:
        return [one for one in self.versions if one.kind == kind and one.ended is None]

    def _told(self, version: Version) -> Values:
        return {name: value for name, value in version.values.items() if name not in KINDS[version.kind].ignored}

    def _cover(self, version: Version) -> tuple[Any, ...] | None:
        listing_key = KINDS[version.kind].listing_key
        return None if listing_key is None else tuple(version.values[column] for column in listing_key)

    def _end(self, run_id: int, version: Version) -> None:
        self.closed += 1
        if version.begun == run_id:
            self.versions.remove(version)
        else:
            version.ended = run_id

    def _end_what_describes(self, run_id: int, gone: Version) -> None:
        for kind, rules in KINDS.items():
            if gone.kind in rules.describes:
                for known in self._open(kind):
                    if known.name[0] == gone.name[0]:
                        self._end(run_id, known)
