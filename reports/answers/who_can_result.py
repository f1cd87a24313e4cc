"""The answer to "who can": holders with their ways, what it rests on, and what it does not know; for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.access.engine.model import Access
from reports.answers.access_paths import Way
from reports.mart.as_of import Moment
from reports.mart.change_event import moment as moment_of
from reports.mart.change_event import place
from reports.mart.result_writers import printable

FORMAT = "kmsledger.who-can/1"
YES, DEPENDS, UNKNOWN, NOBODY = "yes", "depends", "unknown", "nobody"
"""Whether the holder can; ``depends`` on IAM policies that were not collected; ``nobody`` is left to use the access."""


@dataclass(slots=True)
class Holder:
    """One principal (or everyone of some kind) with all its ways, each once."""

    principal: str
    kind: str
    """role, user, root, session, account, service, everyone, organization, deleted, other."""
    account: str | None
    party: str | None
    access: Access
    """How it stands to the key's owner."""
    answer: str
    sentence: str
    reason: str = ""
    """Why it is not known, or what it depends on."""
    ways: list[Way] = field(default_factory=list)
    """To the key."""
    resource_ways: list[Way] = field(default_factory=list)
    """To the secret itself, when a secret was asked about."""

    def plain(self, names: dict[str, str | None]) -> dict[str, Any]:
        """For JSON."""
        return {
            "principal": self.principal,
            "kind": self.kind,
            "account_id": self.account,
            "account_name": names.get(self.account or ""),
            "party": self.party,
            "access": str(self.access),
            "answer": self.answer,
            "sentence": self.sentence,
            "reason": self.reason or None,
            "operations": sorted({operation for way in self.ways for operation in way.operations}),
            "ways": [_way(way) for way in self.ways],
            "resource_ways": [_way(way) for way in self.resource_ways],
        }


def _way(way: Way) -> dict[str, Any]:
    return {
        "path": way.path,
        "via": way.via or None,
        "operations": list(way.operations),
        "scope": way.scope or None,
        "identity_policies": list(way.identity),
        "needs_iam": way.needs_iam,
        "certain": way.certain,
        "reason": way.reason or None,
    }


@dataclass(slots=True)
class KeyAnswer:
    """Who can do something with one key; with a secret, who can read that."""

    key_arn: str | None
    key_name: str | None
    state: str | None
    holders: list[Holder]
    unknown: list[str] = field(default_factory=list)
    """What is not known, a sentence each; with any, there may be more holders."""
    role: str | None = None
    """What the key does for the resource that was asked about."""

    def plain(self, names: dict[str, str | None]) -> dict[str, Any]:
        """For JSON."""
        return {
            "key_arn": self.key_arn,
            "key_name": self.key_name,
            "key_state": self.state,
            "role": self.role,
            "holders": [holder.plain(names) for holder in self.holders],
            "unknown": self.unknown,
        }


@dataclass(slots=True)
class Answer:
    """The whole answer."""

    end: Moment
    question: str
    what: str
    """ARN of what was asked about."""
    what_type: str
    """``key``, or CloudFormation's name of the resource's type."""
    operations: tuple[str, ...]
    keys: list[KeyAnswer]
    notes: list[str]
    names: dict[str, str | None]

    def plain(self) -> dict[str, Any]:
        """For JSON; the README describes it."""
        return {
            "format": FORMAT,
            "as_of": moment_of(self.end),
            "question": self.question,
            "what": self.what,
            "what_type": self.what_type,
            "operations": list(self.operations),
            "keys": [one.plain(self.names) for one in self.keys],
            "notes": self.notes,
        }

    @property
    def known(self) -> bool:
        """Whether all of it is known: nothing is missing, and nothing depends on what was not collected."""
        return not any(one.unknown or any(h.answer in {UNKNOWN, DEPENDS} for h in one.holders) for one in self.keys)

    def lines(self) -> list[str]:
        """For people."""
        found = [self.question, f"  as of {self.end}"]
        for one in self.keys:
            found += ["", *self._key(one)]
        if self.notes:
            found += ["", *(f"Note: {note}" for note in self.notes)]
        return [printable(line) for line in found]

    def _key(self, one: KeyAnswer) -> Iterable[str]:
        if one.key_arn is not None:
            name = f" ({one.key_name})" if one.key_name and not one.key_arn.endswith(one.key_name) else ""
            state = f", state {one.state}" if one.state not in {None, "Enabled"} else ""
            role = f", {one.role}" if one.role else ""
            yield f"Key {one.key_arn}{name}{role}{state}"
        titles = ((YES, "Can"), (DEPENDS, "Depends on IAM"), (UNKNOWN, "Not known"), (NOBODY, "Nobody is left to"))
        for answer, title in titles:
            holders = [holder for holder in one.holders if holder.answer == answer]
            if holders:
                yield f"  {title}:"
            for holder in holders:
                yield from self._holder(holder)
        if not one.holders:
            yield "  Nobody that is known here." if one.unknown else "  Nobody."
        for sentence in one.unknown:
            yield f"  Not known: {sentence}"

    def _holder(self, holder: Holder) -> Iterable[str]:
        where = ""
        if holder.account:
            where = f"  [{holder.party or place(holder.account, self.names.get(holder.account), None)}]"
        names = {"root": "the root user", "account": f"principals of account {holder.account}"}
        shown = holder.sentence if holder.principal == "*" else holder.principal
        yield f"    {names.get(holder.kind, shown)}{where}"
        for way in holder.resource_ways:
            yield f"      the secret: {way.words()}"
        for way in holder.ways:
            what = "the key: " if holder.resource_ways else ""
            operations = f" ({', '.join(way.operations)})" if len(self.operations) > 1 and way.operations else ""
            yield f"      {what}{way.words()}{operations}"
        if holder.reason:
            yield f"      {holder.reason}"


def merged(holders: Iterable[Holder]) -> list[Holder]:
    """Each principal once, with every way; those who surely can come first."""
    found: dict[tuple[str | None, str | None, str], Holder] = {}
    for holder in holders:
        # An account is written as its id or as the ARN of its root, and means the same.
        key = (None if holder.kind == "account" else holder.principal, holder.account, holder.kind)
        known = found.setdefault(key, holder)
        if known is holder:
            continue
        for mine, more in ((known.ways, holder.ways), (known.resource_ways, holder.resource_ways)):
            mine.extend(way for way in more if way not in mine)
        if _RANK.index(holder.answer) < _RANK.index(known.answer):
            known.answer, known.sentence, known.reason = holder.answer, holder.sentence, holder.reason
    return sorted(found.values(), key=_order)


_RANK: Sequence[str] = (YES, DEPENDS, UNKNOWN, NOBODY)


def _order(holder: Holder) -> tuple[int, str, str]:
    return _RANK.index(holder.answer), holder.account or "", holder.principal
