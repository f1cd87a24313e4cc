"""The types in which every request to AWS is declared.

From the declarations alone come the calls, the IAM permissions, the documentation and the checks against the service
models. The crawler has no other way to call AWS: the client takes an :class:`Operation`, not a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import jmespath

from models.store.scd2_merge import Batch
from models.tables.resources import KeyClass
from models.versioned import VersionedTable


@dataclass(frozen=True, slots=True)
class Paging:
    """How a listing is paged: the members that carry the token, and the page size to request.

    A listing ends when the response has no token, never because a page is empty. ``more`` names the flag that shows whether there
    is a next page, where a service has one.
    """

    receive: str
    send: str
    limit: str | None = None
    size: int | None = None
    more: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A read-only API operation that the crawler may call.

    Parameter values starting with ``@`` are taken from the step's subject. ``items`` is the JMESPath of the items in one page
    (empty: the response itself is the item). ``requires`` are the members that AWS returns, not empty, in every item; those of
    a member with ``?`` only if that is present. ``empty_error_codes`` are error codes that mean "there is none".
    """

    service: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    items: str = ""
    requires: tuple[str, ...] = ()
    paging: Paging | None = None
    action: str = ""
    caller: Literal["member", "hub"] = "member"
    empty_error_codes: frozenset[str] = frozenset()

    @property
    def iam_action(self) -> str:
        """The IAM action that allows the operation; declared where its name differs from the operation's."""
        return self.action or f"{self.service}:{self.name}"

    def __str__(self) -> str:
        return f"{self.service}:{self.name}"


WHOLE_SCOPE = Operation("kmsledger", "Scope", action="*")
"""The operation of a gap that concerns a whole scope; never sent."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One account in one region: the unit of work, completeness, retry and commit."""

    account_id: str
    region: str
    partition: str = "aws"

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}"


GLOBAL = "global"
"""The region of what belongs to an account but to no region."""


def search(path: str, item: Mapping[str, Any]) -> Any:
    """Return the value of a JMESPath in an item, ``None`` if there is none."""
    # Fast path: most paths are a member name.
    return item.get(path) if path.isidentifier() else _compiled(path).search(item)


@cache
def _compiled(path: str) -> Any:
    return jmespath.compile(path)


@dataclass(slots=True)
class Subject:
    """The object of a step: the scope itself, or one item that a parent step listed."""

    scope: Scope
    region: str
    arn: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    """Values from earlier steps; parameters starting with ``@`` are looked up here."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation called for a subject, the facts that its response becomes, and the child steps of each item.

    ``record`` adds facts to the batch for one item and returns the subject of the child steps, if there are any. When every page
    arrived, the listings of ``lists`` are complete; ``complete`` records what else follows. ``keep`` records that an item exists
    whose values are invalid, and returns its ARN; the gap is then that of the item, and the listing can be complete.
    ``skip_reason`` returns why the operation does not apply to a subject, or ``None``; ``on_skip`` records the consequence.
    """

    operation: Operation
    record: Callable[[Subject, Mapping[str, Any], Batch], Subject | None]
    lists: tuple[type[VersionedTable], ...] = ()
    identity: str = ""
    """JMESPath of what identifies an item in its listing; an item listed twice is processed once."""
    complete: Callable[[Subject, Batch], None] | None = None
    keep: Callable[[Subject, Mapping[str, Any], Batch], str] | None = None
    skip_reason: Callable[[Subject], str | None] | None = None
    on_skip: Callable[[Subject, str, Batch], None] | None = None
    children_survive: bool = False
    """Whether the child steps run for the same subject when this step failed: they may still succeed."""
    children: tuple[Step, ...] = ()

    def mark_complete(self, subject: Subject, batch: Batch) -> None:
        """Record that the listing is complete."""
        scope = {"account_id": subject.scope.account_id, "region": subject.scope.region}
        for model in self.lists:
            batch.mark_complete(model, *(scope.get(name, subject.arn) for name in model.listing_key))
        if self.complete is not None:
            self.complete(subject, batch)

    def walk(self) -> Iterator[Step]:
        """Return the step and all steps below it, each before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


DefaultKey = str | KeyClass | None
"""The key that a resource uses when it names none: an alias name, a class, or ``None`` when it uses no key at all."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyPath:
    """Where a resource names a key, what the key does for it, and which key it uses when it names none.

    ``when_missing`` maps the value at ``discriminator`` (as text; ``null`` if absent) to the default key. Without a
    discriminator the entry is ``""``. A value that is not listed makes the reference unknown, with the value as the reason.
    """

    path: str
    role: str
    when_missing: Mapping[str, DefaultKey] = field(default_factory=dict)
    discriminator: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """A resource type that uses keys. All paths are JMESPath, relative to one item of the listing (or of ``detail``)."""

    name: str
    listing: Operation
    arn: str
    keys: tuple[KeyPath, ...]
    arn_prefix: str = "arn:{partition}:{service}:{region}:{account}:"
    """How the ARNs of the type begin; an item with another ARN does not belong to what was listed."""
    title: str = ""
    """Path of the name; without one it is the last part of the ARN."""
    detail: Operation | None = None
    """Called for each item when the listing does not name the key."""
    tags: str = ""
    """Path of a list of Key/Value pairs in the item."""
    tags_operation: Operation | None = None
    policy_operation: Operation | None = None
    """Returns the resource policy; called for each item that is not scheduled for deletion."""
    policy: str = ""
    """Path of the policy's text in that response; empty there: the resource has no policy."""
    primary_region: str = ""
    """Path of the region of the primary, in items that have replicas."""
    replicas_operation: Operation | None = None
    """Returns the replicas of one resource; called for each primary that has replicas."""
    replicas: str = ""
    """Path of the list of replicas in that response, each with Region, Status, StatusMessage and KmsKeyId."""
    extra_operations: tuple[Operation, ...] = ()
    """Called for its items by steps of their own."""
    status: str = ""
    encryption: str = ""
    created: str = ""
    deletion: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    missing_values: Mapping[str, str] = field(default_factory=dict)
    """Values of details whose absence has a meaning: they differ from details that were never requested."""
    truncate_to_week: frozenset[str] = frozenset()
    """Details that are timestamps changing every day: stored as the Monday before, or each run would add a version."""
    region: str = ""
    """Path of the resource's own region, for global listings."""
    type_by_engine: Mapping[str, str] = field(default_factory=dict)
    """Type names by engine, for items of other engines that the same listing returns."""
    note: str = ""

    @property
    def regional(self) -> bool:
        """Whether the listing is called in every region."""
        return not self.region

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation that collects the type."""
        of_item = (self.detail, self.tags_operation, self.policy_operation, self.replicas_operation)
        every = (self.listing, *of_item, *self.extra_operations)
        return tuple(operation for operation in every if operation is not None)
