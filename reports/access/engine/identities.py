"""The identities that a caller can be: one for each combination of conditions on the caller that some identity satisfies.

A request is signed by a root user, an IAM user, the session of a role, a federated user, or an AWS service. Their condition
keys (IAM user guide, "AWS global condition context keys" and the table of principal key values in "IAM policy elements:
Variables and tags") are functions of a few free parts: account, path, name, session name, unique id.
"""

from __future__ import annotations

import re
import string
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from reports.access.engine.automaton import Atom, Part, Texts, TooManyStatesError, walk
from reports.access.engine.condition_operators import WITH_VARIABLES
from reports.access.engine.conditions import UNKNOWN, Context, Element, pattern_of, resolve_constants
from reports.access.engine.model import Organization
from reports.access.engine.principals import role_of
from reports.access.engine.request_principals import Audience, Caller, Kind, Origin, role_name
from reports.access.engine.wildcards import has_wildcard

UNIQUE_ID = re.compile(r"A(?:RO|ID)A[A-Z0-9]{12,124}")
_ATTRIBUTES = {
    "aws:principalarn": "arn",
    "aws:principalaccount": "account",
    "kms:calleraccount": "account",
    "aws:username": "name",
    "aws:userid": "id",
    "aws:principalorgid": "organization",
    "aws:principalorgpaths": "path",
    "aws:principalservicename": "service",
    "aws:principalservicenameslist": "service",
}
_ORGANIZATION_KEYS = frozenset({"aws:principalorgid", "aws:principalorgpaths"})
CALLER_KEYS = _ATTRIBUTES.keys() | {"aws:principaltype", "aws:principalisawsservice"}
KEYS_OF_ACCOUNT = _ORGANIZATION_KEYS | {
    "aws:principalisawsservice",
    "aws:principalservicename",
    "aws:principalservicenameslist",
}
"""Keys with the same values for all identities of an account."""
_SERVICE_ACCOUNT = "an account of AWS"
_NAME = "x" + "".join(sorted({*string.ascii_letters, *string.digits, *"_+=,.@-"} - {"x"}))
_PATH = "x" + "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "x")
_UNIQUE = "X" + "".join(sorted({*string.ascii_uppercase, *string.digits} - {"X"}))
_LOWER = string.ascii_lowercase[::-1] + string.digits
_MAX_IDENTITIES = 5_000


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity, and the condition keys that say who it is."""

    caller: Caller
    values: Context
    special: bool = False
    """Whether it is a root user, or named apart from the rest of its account by a Deny."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What distinguishes callers: conditions, the principals that statements name, and whether that is all."""

    atoms: tuple[Atom, ...]
    named: tuple[str, ...]
    """ARNs of identities, or names of services."""
    keys: frozenset[str]
    by_name: bool
    """Whether statements distinguish the identities of an account by name."""
    complete: bool


def conditions_on_caller(elements: Iterable[Element], audiences: Iterable[Audience], constants: Context) -> Conditions:
    """Return what distinguishes callers; ``constants`` are the condition keys that are the same in every request."""
    atoms: dict[Atom, None] = {}
    keys: set[str] = set()
    complete = True
    for element in elements:
        if element.unreadable:
            continue
        keys.update(CALLER_KEYS.intersection(element.keys))
        if (attribute := _ATTRIBUTES.get(element.key)) and element.family != "null":
            values, exact = resolve_constants(element, constants)
            # The number of an account equals its text.
            family = "text" if (attribute, element.family) == ("account", "numeric:equals") else element.family
            complete &= exact and family in WITH_VARIABLES
            if family in WITH_VARIABLES:
                atoms[Atom(attribute, family if exact else "like", values)] = None
        known = constants.get(element.key)
        if not isinstance(known, str) or element.key in CALLER_KEYS:
            continue
        for attribute in [_ATTRIBUTES[variable] for variable in element.variables if variable in _ATTRIBUTES]:
            complete &= all(pattern_of(text) in {"*", text} for text in element.values)
            atoms[Atom(attribute, "caseless" if element.family == "caseless" else "text", (known,))] = None
    named: set[str] = set()
    by_name = False
    for audience in audiences:  # services that NotPrincipal lists are callers of their own
        by_name = True
        named |= audience.arns if audience.inverted else audience.arns | audience.services
    return Conditions(tuple(atoms), tuple(sorted(named)), frozenset(keys), by_name, complete)


class Identities:
    """The identities of callers in one partition, as seen from one organization."""

    def __init__(self, partition: str, organization: Organization, known: Sequence[Container[str]]) -> None:
        self._partition = partition
        self._organization = organization
        self._known = known
        self._cache: dict[tuple[Caller, Conditions], tuple[Identity, ...] | None] = {}

    def of(self, caller: Caller, conditions: Conditions) -> tuple[Identity, ...] | None:
        """Return the identities that the caller can be, special ones last; None if there are too many combinations."""
        key = caller, conditions
        if key not in self._cache:
            try:
                self._cache[key] = tuple(sorted(self._identities(caller, conditions), key=_order))
            except TooManyStatesError:
                self._cache[key] = None
        return self._cache[key]

    def _identities(self, caller: Caller, conditions: Conditions) -> Iterator[Identity]:
        if caller.kind is Kind.DELETED:
            yield Identity(caller, dict.fromkeys(CALLER_KEYS, UNKNOWN))
            return
        if caller.kind is Kind.SERVICE:
            yield from _services(caller, conditions)
            return
        organizations = list(self._organizations(caller, conditions))
        count = 0
        for each, values in self._principals(caller, conditions):
            special = each.arn != caller.arn and (each.kind is Kind.ROOT or each.arn in conditions.named)
            for organization in organizations:
                count += 1
                if count > _MAX_IDENTITIES:
                    raise TooManyStatesError
                yield Identity(each, values | organization, special)
            if not conditions.by_name and conditions.keys <= KEYS_OF_ACCOUNT:
                break  # the other identities of the caller are alike

    def _principals(self, caller: Caller, conditions: Conditions, role: str = "") -> Iterator[tuple[Caller, Context]]:
        """Yield the principals, first the likely ones, each with its condition keys except those of its organization.

        ``role`` is the ARN of a session's role, if it is known.
        """
        atoms = conditions.atoms
        if not caller.may_have_mentioned_id:
            atoms = tuple(_without_unique_ids(atom) if atom.attribute == "id" else atom for atom in atoms)
        # The condition keys of a session contain the ARN of its role, so it cannot be found by its ARN.
        sessions = [arn for arn in conditions.named if f"::{caller.account}:assumed-role/" in arn]
        if caller.arn is not None:
            sessions = [arn for arn in sessions if ":role/" in caller.arn and role_name(arn) == role_name(caller.arn)]
        else:
            arns = [name for name in conditions.named if ":" in name]
            atoms += tuple(Atom("arn", "text", (arn,)) for arn in arns if arn not in sessions)
        for kind in _KINDS if caller.arn is None else (_kind_of(caller.arn),):
            if caller.arn is None and caller.unique_id and _ID_PREFIX.get(kind) != caller.unique_id[:4]:
                continue
            for found in self._combinations(self._forms(kind, caller, role), atoms):
                arn = caller.arn or found["arn"]
                is_root = kind == "Account"
                each = replace(caller, kind=Kind.ROOT if is_root else Kind.IDENTITY, account=found["account"], arn=arn)
                ids = [found] if "id" in found else self._combinations(_id_forms(kind, caller), atoms)
                for user_id in ids:
                    yield each, _values(kind, found | user_id)
        for arn in sessions:
            yield from self._principals(replace(caller, arn=arn), conditions, caller.arn or "")

    def _forms(self, kind: str, caller: Caller, role: str) -> list[tuple[Part, ...]]:
        """Return the forms of the ARN as aws:PrincipalArn has it; an earlier form yields the preferred example."""
        fixed = caller.account is not None
        is_id = {"id"} if kind in {"Account", "FederatedUser"} else set()
        shared = frozenset({"arn", "account", *is_id})
        account = (
            Part(shared, caller.account or "")
            if fixed
            else Part(shared, alphabet="9876543210", minimum=_ACCOUNT_LENGTH, exact=True)
        )
        arn, name = frozenset({"arn"}), frozenset({"arn", "name" if kind == "User" else "arn", *is_id})
        head = Part(arn, f"arn:{self._partition}:{'sts' if kind == 'FederatedUser' else 'iam'}::")
        if kind == "Account":
            return [(head, account, Part(arn, ":root"))]
        resource = Part(arn, f":{_RESOURCES[kind]}/")
        colon = (Part(frozenset({"id"}), ":"),) if is_id else ()
        if caller.arn is not None and _kind_of(caller.arn) == kind and _is_named(caller.arn):
            path, slash, text = (role or role_of(caller.arn)).partition(f":{_RESOURCES[kind]}/")[2].rpartition("/")
            before = (Part(arn, path + slash),) if slash else ()
            named = [(head, account, resource, *before, *colon, Part(name, text))]
            if ":assumed-role/" in caller.arn and not role:
                # The role may have any path: aws:PrincipalArn contains it, the ARN of the session does not.
                named.append((head, account, resource, Part(arn, alphabet=_PATH), Part(arn, "/"), Part(name, text)))
            return named
        example = "stranger" if caller.origin is Origin.STRANGER else "example"
        free = Part(name, alphabet=_NAME, minimum=2 if kind == "FederatedUser" else 1)
        forms = [(head, account, resource, *colon, Part(name, example)), (head, account, resource, *colon, free)]
        if kind != "FederatedUser":
            forms.append((head, account, resource, Part(arn, alphabet=_PATH), Part(arn, "/"), free))
        return forms

    def _combinations(self, forms: Sequence[tuple[Part, ...]], atoms: tuple[Atom, ...]) -> list[dict[str, str]]:
        """Return the attributes of one text of the forms for each combination of the atoms' results."""
        attributes = frozenset[str]().union(*(part.attributes for part in forms[0]))
        relevant = tuple(atom for atom in atoms if atom.attribute in attributes)
        if not relevant and all(part.literal for part in forms[0]):
            return [_attributes(forms[0], tuple(part.literal for part in forms[0]))]
        combinations: dict[tuple[bool, ...], dict[str, str]] = {}
        for parts in forms:
            if combinations and not relevant:
                break
            for combination, texts in self._walk(parts, relevant).items():
                combinations.setdefault(combination, _attributes(parts, texts))
        return list(combinations.values())

    def _walk(self, parts: tuple[Part, ...], atoms: tuple[Atom, ...]) -> dict[tuple[bool, ...], Texts]:
        """Walk the form without the accounts that are known, because these are callers of their own."""
        account = next((index for index, part in enumerate(parts) if part.exact), None)
        excluded: frozenset[str] = frozenset()
        while True:
            combinations = walk(parts, atoms, excluded)
            if account is None:
                return combinations
            accounts = {texts[account] for texts in combinations.values()}
            taken = {text for text in accounts if any(text in known for known in self._known)}
            if not taken:
                return combinations
            excluded |= taken

    def _organizations(self, caller: Caller, conditions: Conditions) -> Iterator[Context]:
        """Yield the possible values of the keys on the caller's organization."""
        if not conditions.keys & _ORGANIZATION_KEYS:
            yield {}
            return
        ours = self._organization.organization_id
        path = self._organization.organization_paths.get(caller.account or "")
        unknown: Context = {"aws:principalorgid": UNKNOWN, "aws:principalorgpaths": UNKNOWN}
        atoms = tuple(atom for atom in conditions.atoms if atom.attribute in {"organization", "path"})
        fixed = ours if caller.origin is Origin.OURS else caller.organization
        if caller.origin is Origin.OURS and not ours:
            yield unknown
        elif caller.origin is Origin.OURS and path:
            yield {"aws:principalorgid": ours, "aws:principalorgpaths": (path,)}
        elif fixed and "aws:principalorgpaths" not in conditions.keys:
            yield {"aws:principalorgid": fixed}
        elif caller.origin is Origin.NAMED and (ours is None or not self._organization.accounts):
            yield unknown
        else:
            if not fixed:
                yield {"aws:principalorgid": None, "aws:principalorgpaths": None}
            if (
                caller.origin is Origin.STRANGER
            ):  # members of an organization that the policy names are callers of their own
                atoms = tuple(
                    replace(atom, values=tuple(text for text in atom.values if has_wildcard(text.partition("/")[0])))
                    for atom in atoms
                )
            for found in self._combinations(_organization_forms(fixed), atoms):
                if fixed or found["organization"] != ours:
                    yield {"aws:principalorgid": found["organization"], "aws:principalorgpaths": (found["path"],)}


def _order(identity: Identity) -> tuple[bool, bool]:
    return identity.special, identity.caller.kind is not Kind.ROOT


_ACCOUNT_LENGTH = 12
_KINDS = ("AssumedRole", "User", "FederatedUser", "Account")
"""The values of aws:PrincipalType, the likely ones first."""
_RESOURCES = {"AssumedRole": "role", "User": "user", "FederatedUser": "federated-user"}
_ID_PREFIX = {"AssumedRole": "AROA", "User": "AIDA"}


def _kind_of(arn: str) -> str:
    resource = arn.split(":", 5)[5].partition("/")[0]
    return {"root": "Account", "user": "User", "federated-user": "FederatedUser"}.get(resource, "AssumedRole")


def _is_named(arn: str) -> bool:
    """Whether the ARN names a user, role or session, and not the identity provider of a session."""
    return not arn.split(":", 5)[5].startswith(("saml-provider/", "oidc-provider/"))


def _id_forms(kind: str, caller: Caller) -> list[tuple[Part, ...]]:
    """Return the forms of aws:userid for a user, or for the session of a role."""
    part = frozenset({"id"})
    free = Part(part, alphabet=_UNIQUE, minimum=12)
    starts = [(Part(part, f"{_ID_PREFIX[kind]}STRANGER00000EXAM"),), (Part(part, _ID_PREFIX[kind]), free)]
    if caller.unique_id:
        starts = [(Part(part, caller.unique_id),)]
        if caller.arn is None:  # a policy can mention the beginning of an id
            starts.append((*starts[0], Part(part, alphabet=_UNIQUE)))
    if kind == "User":
        return starts
    if caller.arn is not None and ":assumed-role/" in caller.arn:
        session = Part(part, caller.arn.rpartition("/")[2])
        return [(*start, Part(part, ":"), session) for start in starts]
    names = (Part(part, "session"), Part(part, alphabet=_NAME, minimum=2))
    return [(*start, Part(part, ":"), name) for start in starts for name in names]


def _organization_forms(fixed: str | None) -> list[tuple[Part, ...]]:
    both, path = frozenset({"organization", "path"}), frozenset({"path"})
    free = Part(path, alphabet=_LOWER, minimum=4)
    organizations = (
        [(Part(both, fixed),)]
        if fixed
        else [(Part(both, "o-stranger00"),), (Part(both, "o-"), Part(both, alphabet=_LOWER, minimum=4))]
    )
    units = (Part(path, "/ou-"), Part(path, alphabet=f"{_LOWER}-/", minimum=13), Part(path, "/"))
    paths = (
        (Part(path, "/r-example/"),),
        (Part(path, "/r-"), free, Part(path, "/")),
        (Part(path, "/r-"), free, *units),
    )
    return [(*organization, *rest) for organization in organizations for rest in paths]


def _services(caller: Caller, conditions: Conditions) -> Iterator[Identity]:
    values: Context = dict.fromkeys(CALLER_KEYS)
    values["aws:principalisawsservice"] = "true"
    # Not documented, but certainly not the account of a customer.
    values["kms:calleraccount"] = _SERVICE_ACCOUNT if caller.name == "*" else UNKNOWN
    names = [caller.name]
    if caller.name == "*":
        part = frozenset({"service"})
        atoms = tuple(atom for atom in conditions.atoms if atom.attribute == "service")
        atoms += tuple(Atom("service", "text", (name,)) for name in conditions.named if ":" not in name)
        suffix = Part(part, ".amazonaws.com")
        free = (Part(part, alphabet=f"{_LOWER}.-"), suffix)
        found = walk(((Part(part, "service"), suffix)), atoms) if atoms else {}
        found = {**walk(free, atoms), **found} if atoms else {}
        names = ["".join(texts) for texts in found.values()] or ["*"]
    for name in names:
        named: Context = {"aws:principalservicename": name, "aws:principalservicenameslist": (name,)}
        yield Identity(replace(caller, name=name), values | named)


def _values(kind: str, found: dict[str, str]) -> Context:
    return {
        "aws:principalarn": found["arn"],
        "aws:principalaccount": found["account"],
        "kms:calleraccount": found["account"],
        "aws:principaltype": kind,
        "aws:userid": found["id"],
        "aws:username": found.get("name"),
        "aws:principalisawsservice": "false",
        "aws:principalservicename": None,
        "aws:principalservicenameslist": None,
    }


def _attributes(parts: tuple[Part, ...], texts: Texts) -> dict[str, str]:
    names = frozenset[str]().union(*(part.attributes for part in parts))
    return {
        name: "".join(text for part, text in zip(parts, texts, strict=True) if name in part.attributes)
        for name in names
    }


def _without_unique_ids(atom: Atom) -> Atom:
    return replace(atom, values=tuple(value for value in atom.values if not UNIQUE_ID.match(value)))
