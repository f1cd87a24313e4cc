"""The vocabulary in which everything that is asked of AWS is declared.

From the declarations alone come the calls, the IAM permissions, the documentation and the checks against the service
models. The crawler has no other way to call AWS: the door takes an :class:`Operation`, not a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.store.scd2_merge import Batch
from models.tables.resources import KeyClass


@dataclass(frozen=True, slots=True)
class Paging:
    """How a listing goes on: the token's way back and forth, and the page size to ask for.

    A listing ends when no token comes back, never because a page is empty. ``more`` names the flag which says that the token
    counts, where a service has one.
    """

    receive: str
    send: str
    limit: str | None = None
    size: int | None = None
    more: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A read-only API operation that the crawler may call.

    Parameter values starting with ``@`` are taken from the subject asked about; ``items`` is the JMESPath of what one page
    holds (empty: the answer itself is the item); ``nothing`` are error codes that are an answer, "there is none".
    """

    service: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    items: str = ""
    paging: Paging | None = None
    action: str = ""
    caller: Literal["member", "hub"] = "member"
    nothing: frozenset[str] = frozenset()

    @property
    def iam_action(self) -> str:
        """The IAM action that allows it; stated where it is not named like the operation."""
        return self.action or f"{self.service}:{self.name}"

    def __str__(self) -> str:
        return f"{self.service}:{self.name}"


EVERYTHING = Operation("kmsledger", "Scope", action="*")
"""What a gap names that concerns a whole scope rather than one operation; never sent."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One account in one region: the unit of work, of completeness, of retry and of commit."""

    account_id: str
    region: str
    partition: str = "aws"

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}"


GLOBAL = "global"
"""The region of an account's region-less part."""


@dataclass(slots=True)
class Subject:
    """What a step asks about: the scope itself, or one item that an earlier step found there."""

    scope: Scope
    region: str
    arn: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    """What earlier steps learned of it; parameters starting with ``@`` are looked up here."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation asked of a subject, what its answer becomes, and what is asked next of each item.

    ``record`` adds facts to the batch for one item and returns the subject for the steps below (or ``None``).
    ``complete`` states which listings are proved whole when every page arrived. ``applies`` gives the reason why the question
    makes no sense for this subject, or ``None``; what that means is recorded by ``skipped``.
    """

    operation: Operation
    record: Callable[[Subject, Mapping[str, Any], Batch], Subject | None]
    complete: Callable[[Subject, Batch], None] | None = None
    applies: Callable[[Subject], str | None] | None = None
    skipped: Callable[[Subject, str, Batch], None] | None = None
    denied: Callable[[Subject], Subject | None] | None = None
    """The subject for the steps below when this step itself could not be answered: they may still be."""
    below: tuple[Step, ...] = ()


Meaning = str | KeyClass | None
"""What an omitted key means: an alias name, a class, or ``None`` when there is no reference at all."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyPath:
    """Where a resource names a key, what the key does for it, and what it means when the name is omitted.

    ``omitted`` maps the value at ``when`` (as text; ``null`` if absent) to its meaning; with no ``when`` it is the entry
    ``""``. A value that is not listed makes the reference unknown, with the value as the reason.
    """

    path: str
    role: str
    omitted: Mapping[str, Meaning] = field(default_factory=dict)
    when: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """A resource type that uses keys. All paths are JMESPath, relative to one item of the listing (or of ``detail``)."""

    name: str
    listing: Operation
    arn: str
    title: str
    keys: tuple[KeyPath, ...]
    detail: Operation | None = None
    """Asked for each item when the listing does not name the key."""
    tags: str = ""
    """Path of a list of Key/Value pairs in the item."""
    tags_operation: Operation | None = None
    policy_operation: Operation | None = None
    """Asked for the resource policy of each item that is not about to be deleted."""
    policy: str = ""
    """Path of the policy's text in that answer; nothing there: the resource has no policy."""
    further: tuple[Operation, ...] = ()
    """Asked of its items by steps of its own."""
    status: str = ""
    encryption: str = ""
    created: str = ""
    deletion: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    """The words that stand for details whose absence is an answer: it tells them from what was never asked."""
    weekly: frozenset[str] = frozenset()
    """Details that are times which move every day: kept as the Monday before, or each night would be a new version."""
    region: str = ""
    """Path of the resource's own region, for listings that are not regional."""
    by_engine: Mapping[str, str] = field(default_factory=dict)
    """Type names for items of other engines that the same listing returns."""
    note: str = ""

    @property
    def regional(self) -> bool:
        """Whether the listing is asked in every region."""
        return not self.region

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation that it takes."""
        every = (self.listing, self.detail, self.tags_operation, self.policy_operation, *self.further)
        return tuple(found for found in every if found is not None)
