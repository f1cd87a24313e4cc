"""The values that a caller can give each condition key: the search for a witness tries them and no others.

A value that no policy mentions is like any other value that none mentions, so those that a policy compares with, a neighbour
of each, one other and none at all are enough to tell every answer apart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache

from reports.access.engine.condition_keys import MULTIPLE, Source, carried_by, source
from reports.access.engine.condition_operators import moment, network, number
from reports.access.engine.conditions import UNKNOWN, Element, Value
from reports.access.engine.kms_actions import NAMES, SYMMETRIC_MASK
from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.request_principals import Caller, Kind, Origin
from reports.access.engine.wildcards import common, filled, matches, plain, wild

ANYONE, THROUGH_SERVICES, INSIDE_NETWORKS = range(3)
"""How far the search goes: calls anyone can make, also those through AWS services, also those from a network of someone's."""

_OTHER = "other-example"
_PATTERNS = 48
_SERVICES_OWN = "an account of AWS"
STRANGER_ORGANIZATION = "o-stranger00"
_STRANGER_IDS = ("AROASTRANGER00000EXAM:session", "AIDASTRANGER00000EXAM")
_REAL_OTHERS = {
    "aws:sourceip": "198.51.100.77",
    "aws:vpcsourceip": "10.254.253.252",
    "aws:sourcevpce": "vpce-0other",
    "aws:sourcevpc": "vpc-0other",
    "aws:sourceaccount": "999999999998",
    "aws:sourcearn": "arn:aws:sns:us-east-1:999999999998:other",
    "aws:sourceorgid": "o-other00000",
    "kms:viaservice": "other.us-east-1.amazonaws.com",
    "kms:requestalias": "alias/other",
}
_NEVER_ABSENT = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:viaawsservice",
        "kms:grantisforawsresource",
        "kms:grantoperations",
        "kms:bypasspolicylockoutsafetycheck",
        "kms:reencryptonsamekey",
    }
)
_BOOLEAN = frozenset(
    {
        "aws:viaawsservice",
        "kms:grantisforawsresource",
        "kms:bypasspolicylockoutsafetycheck",
        "kms:reencryptonsamekey",
        "aws:multifactorauthpresent",
    }
)


@lru_cache(maxsize=65_536)
def instances(family: str, written: str) -> tuple[str, ...]:
    """Values that satisfy one value of a policy, and close ones that do not."""
    kind = family.partition(":")[0]
    match kind:
        case "like" | "arn":
            if not wild(written):
                return (plain(written),)
            return tuple(dict.fromkeys(filled(written, star) for star in ("example", "x1", "")))
        case "caseless":
            return (plain(written), plain(written).swapcase())
        case "bool":
            return ("true", "false")
        case "numeric":
            middle = number(written)
            return () if middle is None else tuple(f"{middle + step:f}" for step in (0, -1, 1))
        case "date":
            second = moment(written)
            return () if second is None else tuple(_date(float(second) + step) for step in (0, -1, 1))
        case "ip":
            wanted = network(written)
            if wanted is None:
                return ()
            last = wanted.num_addresses - 1
            return tuple(dict.fromkeys(str(wanted[index]) for index in (min(1, last), max(0, last - 1))))
        case "null":
            return ()
        case _:
            return (plain(written),)


def _date(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))


Uses = tuple[tuple[str, str], ...]
"""What a policy compares a key with: family and value."""


def uses_of(elements: Iterable[Element]) -> dict[str, Uses]:
    """By key (lower case), every value without variables that the elements compare it with."""
    found: dict[str, dict[tuple[str, str], None]] = {}
    for element in elements:
        if element.unreadable:
            continue
        known = found.setdefault(element.key, {})
        for value in element.values:
            if "${" not in value or not element.variables:
                known[element.family, value] = None
        for key in element.variables:
            found.setdefault(key, {})
    return {key: tuple(values) for key, values in found.items()}


class Reach:
    """The values within reach for one key policy on one key; remembers what it has worked out."""

    def __init__(self, uses: dict[str, Uses], facts: KeyFacts, organization: Organization) -> None:
        self._uses = uses
        self._facts = facts
        self._organization = organization
        self._free: dict[str, tuple[str, ...]] = {}
        self._known: dict[tuple[str, Caller, bool, int], tuple[Value, ...]] = {}
        parts = facts.arn.split(":", 5)
        self.partition = parts[1] if len(parts) == 6 and parts[1] else "aws"
        self._region = parts[3] if len(parts) == 6 else ""

    def values(self, key: str, caller: Caller, operation: int, level: int) -> tuple[Value, ...]:
        """What the caller can make of the key in a request for the operation (one bit)."""
        carried = bool(carried_by(key) & operation)
        if key.startswith("kms:encryptioncontext") and carried and operation & SYMMETRIC_MASK:
            carried = self._facts.key_spec in (None, "SYMMETRIC_DEFAULT")
        asked = (key, caller, carried, level)
        found = self._known.get(asked)
        if found is None:
            found = self._known[asked] = self._values(key, caller, level) if carried else (None,)
        return found

    def incomplete(self, key: str) -> bool:
        """Whether the policy has so many patterns for the key that values which fit several of them were not all tried."""
        patterns = sum(family in {"like", "arn"} and wild(value) for family, value in self._uses.get(key, ()))
        return patterns > _PATTERNS and source(key) is not Source.CALLER

    def added(self, key: str, values: Iterable[str], known: tuple[Value, ...]) -> tuple[Value, ...]:
        """The values, and what variables have turned into, for a key whose value the caller chooses."""
        if source(key) in (Source.CALLER, Source.KEY, Source.UNKNOWN):
            return known
        texts = tuple(text for one in values for text in instances("like", one))
        more: tuple[Value, ...] = tuple((text,) for text in texts) if key in MULTIPLE else texts
        return tuple(dict.fromkeys((*more, *known)))

    def _values(self, key: str, caller: Caller, level: int) -> tuple[Value, ...]:
        match source(key):
            case Source.KEY:
                return (self._of_key(key),)
            case Source.CALLER:
                return self._of_caller(key, caller)
            case Source.DEPUTY:
                return self._chosen(key) if caller.kind is Kind.SERVICE else (None,)
            case Source.SERVICE:
                return self._of_service(key, caller, level)
            case Source.NETWORK:
                return (None,) if caller.kind is Kind.SERVICE else self._of_network(key, level)
            case Source.CLOCK:
                return self._of_clock(key)
            case Source.REQUEST:
                personal = key.startswith("aws:") and caller.kind is Kind.SERVICE
                return (None,) if personal else self._chosen(key)
            case _:
                return (UNKNOWN,)

    def _texts(self, key: str) -> tuple[str, ...]:
        """Every text worth trying for a key that takes any text."""
        found = self._free.get(key)
        if found is not None:
            return found
        uses = self._uses.get(key, ())
        texts = [text for family, value in uses for text in instances(family, value)]
        patterns = list(dict.fromkeys(value for family, value in uses if family in {"like", "arn"} and wild(value)))
        for index, one in enumerate(patterns[:_PATTERNS]):
            texts += (text for other in patterns[index + 1 : _PATTERNS] if (text := common(one, other)) is not None)
        texts.append(_REAL_OTHERS.get(key, _OTHER))
        if key == "kms:grantoperations":
            texts = [*texts[:-1], *(name for name in ("Decrypt", "DescribeKey") if name not in texts)]
        if key in _BOOLEAN:
            texts = ["false", "true"]
        found = self._free[key] = tuple(dict.fromkeys(texts))
        return found

    def _chosen(self, key: str) -> tuple[Value, ...]:
        return _shaped(key, self._texts(key))

    def _of_service(self, key: str, caller: Caller, level: int) -> tuple[Value, ...]:
        direct: tuple[Value, ...] = ("false",) if key in _BOOLEAN else (None,)
        if level < THROUGH_SERVICES or caller.kind is Kind.SERVICE:
            # A service that calls for itself can create grants for its resources.
            return ("false", "true") if caller.kind is Kind.SERVICE and key == "kms:grantisforawsresource" else direct
        return tuple(dict.fromkeys((*direct, *_shaped(key, self._texts(key)))))

    def _of_network(self, key: str, level: int) -> tuple[Value, ...]:
        if level >= INSIDE_NETWORKS:
            return _shaped(key, self._texts(key))
        uses = self._uses.get(key, ())
        texts = [text for family, value in uses if _anywhere(family, value) for text in instances(family, value)]
        return _shaped(key, (*texts, _REAL_OTHERS.get(key, _OTHER)))

    def _of_clock(self, key: str) -> tuple[Value, ...]:
        if self._organization.now is not None:
            return (_date(self._organization.now.timestamp()),)
        return _shaped(key, tuple(text for text in self._texts(key) if text != _OTHER) or (_date(0),))

    def _of_key(self, key: str) -> Value:
        facts, organization = self._facts, self._organization
        if key.startswith("aws:resourcetag/"):
            return self._tag(key.removeprefix("aws:resourcetag/"))
        match key:
            case "aws:resourceaccount":
                return facts.account
            case "aws:resourceorgid":
                return organization.organization_id or UNKNOWN
            case "aws:resourceorgpaths":
                path = organization.organization_paths.get(facts.account)
                return (path,) if path else UNKNOWN
            case "aws:requestedregion":
                return self._region or UNKNOWN
            case "aws:securetransport":
                return "true"
            case "kms:resourcealiases":
                return UNKNOWN if facts.aliases is None else facts.aliases
            case "kms:keyspec" | "kms:customermasterkeyspec":
                return facts.key_spec or UNKNOWN
            case "kms:keyusage" | "kms:customermasterkeyusage":
                return facts.key_usage or UNKNOWN
            case "kms:keyorigin":
                return facts.origin or UNKNOWN
            case "kms:multiregion":
                return "true" if "key/mrk-" in facts.arn else "false"
            case _:
                return UNKNOWN

    def _tag(self, name: str) -> Value:
        if self._facts.tags is None:
            return UNKNOWN
        # Letter case does not count in the names of condition keys, of which the name of the tag is a part.
        found = {value for key, value in self._facts.tags.items() if key.lower() == name}
        return UNKNOWN if len(found) > 1 else next(iter(found), None)

    def _of_caller(self, key: str, caller: Caller) -> tuple[Value, ...]:
        service = caller.kind is Kind.SERVICE
        match key:
            case "aws:principalisawsservice":
                return ("true" if service else "false",)
            case "aws:principalservicename" | "aws:principalservicenameslist":
                if not service:
                    return (None,)
                return self._chosen(key) if caller.name == "*" else _shaped(key, (caller.name,))[1:]
            case "kms:calleraccount":
                if service:  # not documented; whatever it is, it is no customer's account
                    return (_SERVICES_OWN if caller.name == "*" else UNKNOWN,)
                return (caller.account or caller.stands_in or UNKNOWN,)
        if service or caller.kind is Kind.GONE:
            return (None,) if service else (UNKNOWN,)
        match key:
            case "aws:principalaccount":
                return (caller.account or caller.stands_in or UNKNOWN,)
            case "aws:principalarn":
                return self._arns(caller)
            case "aws:userid":
                return self._user_ids(caller)
            case "aws:principalorgid":
                return self._organizations(caller)
            case "aws:principalorgpaths":
                return self._paths(caller)
            case "aws:username":
                return (None,) if caller.kind is Kind.ROOT else self._chosen(key)
            case _:
                return tuple(dict.fromkeys(("AssumedRole", "User", *self._texts(key))))

    def _arns(self, caller: Caller) -> tuple[Value, ...]:
        if caller.arn is not None:
            return (_role_arn(caller.arn),)
        account = caller.account or caller.stands_in or "*"
        homes = [f"arn:{self.partition}:iam::{account}:{kind}" for kind in ("role/*", "user/*", "root")]
        found: list[Value] = [] if account == "*" else [homes[0].replace("*", "example")]
        for family, value in self._uses.get("aws:principalarn", ()):
            if family in {"like", "arn"} and wild(value):
                found += (text for home in homes if (text := _identity(value, home)) is not None)
            elif not wild(plain(value)) and any(matches(home, plain(value)) for home in homes):
                found.append(plain(value))
        if not found:
            found.append(homes[0].replace("role/*", "role/example"))
        return tuple(dict.fromkeys(found))

    def _user_ids(self, caller: Caller) -> tuple[Value, ...]:
        if caller.unique_id is not None:
            return (caller.unique_id,)
        if caller.kind is Kind.ROOT:
            return (caller.account,)
        found: list[Value] = list(_STRANGER_IDS)
        for family, value in self._uses.get("aws:userid", ()):
            if caller.account is None or caller.origin is Origin.STRANGER:
                if wild(value) and family == "like":
                    found += (text for one in _STRANGER_IDS if (text := common(value, f"{one[:21]}*")) is not None)
            else:
                found += instances(family, value)
        return tuple(dict.fromkeys(found))

    def _organizations(self, caller: Caller) -> tuple[Value, ...]:
        ours = self._organization.organization_id
        match caller.origin:
            case Origin.OURS:
                return (ours or UNKNOWN,)
            case Origin.MEMBER:
                return (caller.organization,)
            case Origin.NAMED if ours is None or not self._organization.accounts:
                return (UNKNOWN,)
            case Origin.NAMED:
                return tuple(text for text in self._chosen("aws:principalorgid") if text != ours)
            case _:
                uses = self._uses.get("aws:principalorgid", ())
                own = (text for _, value in uses if wild(value) and (text := common(value, "o-??????????*")))
                return (None, STRANGER_ORGANIZATION, *(text for text in own if text != ours))

    def _paths(self, caller: Caller) -> tuple[Value, ...]:
        organization = self._organization
        key = "aws:principalorgpaths"
        if (
            caller.origin is Origin.OURS
            and caller.account
            and (path := organization.organization_paths.get(caller.account))
        ):
            return ((path,),)
        found: list[Value] = []
        for organization_id in self._organizations(caller):
            if not isinstance(organization_id, str):
                found.append(None if organization_id is None else UNKNOWN)
                continue
            found.append((f"{organization_id}/r-example/",))
            for _, value in self._uses.get(key, ()):
                text = common(value, f"{organization_id}/*")
                if text is not None:
                    found.append((text,))
        return tuple(dict.fromkeys(found))


@lru_cache(maxsize=16_384)
def _identity(pattern: str, home: str) -> str | None:
    return common(pattern, home)


def _role_arn(arn: str) -> str:
    """aws:PrincipalArn of a session is its role's ARN; the path, which a session does not tell, is taken as none."""
    head, found, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.split('/')[0]}" if found else arn


def _anywhere(family: str, value: str) -> bool:
    """Whether what names a network names so much that anyone is inside."""
    if family == "ip":
        wanted = network(value)
        return wanted is not None and wanted.prefixlen < (8 if wanted.version == 4 else 32)
    return value.replace("*", "").replace("?", "") in {"", "vpc-", "vpce-"} and wild(value)


def _shaped(key: str, texts: tuple[str, ...]) -> tuple[Value, ...]:
    absent: tuple[Value, ...] = () if key in _NEVER_ABSENT else (None,)
    if key not in MULTIPLE:
        return (*absent, *texts)
    every: tuple[Value, ...] = (tuple(texts), tuple(texts[:-1])) if len(texts) > 1 else ()
    return tuple(dict.fromkeys((*absent, *((text,) for text in texts), *every)))


def first_name(operations: int) -> str:
    """The operation that stands for a group in a witness: use of the key before anything else."""
    for name in ("Decrypt", "PutKeyPolicy", "CreateGrant"):
        if operations & 1 << NAMES.index(name):
            return name
    return NAMES[(operations & -operations).bit_length() - 1]
