"""Candidate values of condition keys for a caller: the only values that the search for a witness tries.

All values that a policy does not mention are equivalent. Therefore the values that a policy compares with, a neighbor of
each, one text of each combination of its patterns, one other value and no value at all cover every possible result.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Container, Iterable
from functools import lru_cache

from reports.access.engine.automaton import Atom, Part, TooManyStatesError, walk
from reports.access.engine.condition_keys import Source, condition_key
from reports.access.engine.condition_operators import parse_network, parse_number, parse_timestamp
from reports.access.engine.conditions import UNKNOWN, Context, Element, Value
from reports.access.engine.identities import Identities
from reports.access.engine.kms_actions import SYMMETRIC_MASK
from reports.access.engine.model import KeyFacts, Organization
from reports.access.engine.request_principals import Caller, Kind
from reports.access.engine.wildcards import common_match, example_match, has_wildcard, unescape

ANYONE, THROUGH_SERVICES, INSIDE_NETWORKS = range(3)
"""Levels of the search: direct requests of anyone, plus requests through AWS services, plus requests from private networks."""

_MAX_PATTERNS = 48


@lru_cache(maxsize=65_536)
def sample_values(family: str, written: str) -> tuple[str, ...]:
    """Return values that satisfy one value of a policy, and neighbors that do not."""
    kind = family.partition(":")[0]
    match kind:
        case "like" | "arn":
            if not has_wildcard(written):
                return (unescape(written),)
            return tuple(dict.fromkeys(example_match(written, star) for star in ("example", "x1", "")))
        case "caseless":
            return (unescape(written), unescape(written).swapcase())
        case "bool":
            return ("true", "false")
        case "numeric":
            middle = parse_number(written)
            return () if middle is None else tuple(f"{middle + step:f}" for step in (0, -1, 1))
        case "date":
            second = parse_timestamp(written)
            return () if second is None else tuple(_date(float(second) + step) for step in (0, -1, 1))
        case "ip":
            network = parse_network(written)
            if network is None:
                return ()
            last = network.num_addresses - 1
            return tuple(dict.fromkeys(str(network[index]) for index in (min(1, last), max(0, last - 1))))
        case "null":
            return ()
        case _:
            return (unescape(written),)


def _date(seconds: float) -> str:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))


ComparedValues = tuple[tuple[str, str], ...]
"""The comparisons of a policy with a key: family and value."""


def compared_values(elements: Iterable[Element]) -> dict[str, ComparedValues]:
    """Return by key (lower case) the values without variables that the elements compare it with."""
    comparisons: dict[str, dict[tuple[str, str], None]] = {}
    for element in elements:
        if element.unreadable:
            continue
        compared = comparisons.setdefault(element.key, {})
        for value in element.values:
            if "${" not in value or not element.variables:
                compared[element.family, value] = None
        for key in element.variables:
            comparisons.setdefault(key, {})
    return {key: tuple(values) for key, values in comparisons.items()}


class CandidateContext:
    """The candidate values of condition keys for one policy on one key, cached."""

    def __init__(
        self,
        compared: dict[str, ComparedValues],
        facts: KeyFacts,
        organization: Organization,
        mentioned: Container[str] = (),
    ) -> None:
        self._compared = compared
        self._facts = facts
        self._organization = organization
        self._text_cache: dict[str, tuple[str, ...]] = {}
        self._value_cache: dict[tuple[str, Caller, bool, int], tuple[Value, ...]] = {}
        parts = facts.arn.split(":", 5)
        self.partition = parts[1] if len(parts) == 6 and parts[1] else "aws"
        path = organization.organization_paths.get(facts.account)
        spec, usage = facts.key_spec or UNKNOWN, facts.key_usage or UNKNOWN
        known = ((facts.account,), organization.accounts, organization.parties, mentioned)
        self.identities = Identities(self.partition, organization, known)
        self.constants: Context = {
            "aws:resourceaccount": facts.account,
            "aws:resourceorgid": organization.organization_id or UNKNOWN,
            "aws:resourceorgpaths": (path,) if path else UNKNOWN,
            "aws:requestedregion": (parts[3] if len(parts) == 6 else "") or UNKNOWN,
            "aws:securetransport": "true",
            "kms:resourcealiases": UNKNOWN if facts.aliases is None else facts.aliases,
            **dict.fromkeys(("kms:keyspec", "kms:customermasterkeyspec"), spec),
            **dict.fromkeys(("kms:keyusage", "kms:customermasterkeyusage"), usage),
            "kms:keyorigin": facts.origin or UNKNOWN,
            "kms:multiregion": "true" if "key/mrk-" in facts.arn else "false",
        }
        for key in compared:
            if key.startswith("aws:resourcetag/"):
                self.constants[key] = self._tag(key.removeprefix("aws:resourcetag/"))

    def values(self, key: str, caller: Caller, operation: int, level: int) -> tuple[Value, ...]:
        """Return the values that the key can have when the caller requests the operation (one bit)."""
        carried = bool(condition_key(key).operations & operation)
        if key.startswith("kms:encryptioncontext") and carried and operation & SYMMETRIC_MASK:
            carried = self._facts.key_spec in (None, "SYMMETRIC_DEFAULT")
        cache_key = (key, caller, carried, level)
        values = self._value_cache.get(cache_key)
        if values is None:
            values = self._value_cache[cache_key] = self._values(key, caller, level) if carried else (None,)
        return values

    def is_incomplete(self, key: str) -> bool:
        """Whether the policy has too many patterns for the key to try values that match several of them."""
        patterns = sum(
            family in {"like", "arn"} and has_wildcard(value) for family, value in self._compared.get(key, ())
        )
        return patterns > _MAX_PATTERNS and condition_key(key).source is not Source.CALLER

    def with_resolved(self, key: str, values: Iterable[str], known: tuple[Value, ...]) -> tuple[Value, ...]:
        """Return the known values, plus the values of resolved variables for a key that the caller can choose."""
        if condition_key(key).source in (Source.CALLER, Source.KEY, Source.UNKNOWN):
            return known
        texts = tuple(text for value in values for text in sample_values("like", value))
        more: tuple[Value, ...] = tuple((text,) for text in texts) if condition_key(key).multivalued else texts
        return tuple(dict.fromkeys((*more, *known)))

    def _values(self, key: str, caller: Caller, level: int) -> tuple[Value, ...]:
        match condition_key(key).source:
            case Source.KEY:
                return (self.constants.get(key, UNKNOWN),)
            case Source.DEPUTY:
                return self._chosen(key) if caller.kind is Kind.SERVICE else (None,)
            case Source.SERVICE:
                return self._of_service(key, caller, level)
            case Source.NETWORK:
                return (None,) if caller.kind is Kind.SERVICE else self._of_network(key, level)
            case Source.OTHER:
                return (None,)
            case Source.CLOCK:
                return self._of_clock(key)
            case Source.USAGE:
                return self._chosen(key)
            case Source.REQUEST:
                personal = key.startswith("aws:") and caller.kind is Kind.SERVICE
                return (None,) if personal else self._chosen(key)
            case _:
                return (UNKNOWN,)

    def _texts(self, key: str) -> tuple[str, ...]:
        """Return the candidate strings for a key that accepts any string."""
        cached = self._text_cache.get(key)
        if cached is not None:
            return cached
        compared = self._compared.get(key, ())
        texts = [text for family, value in compared for text in sample_values(family, value)]
        patterns = list(
            dict.fromkeys(value for family, value in compared if family in {"like", "arn"} and has_wildcard(value))
        )
        for index, pattern in enumerate(patterns[:_MAX_PATTERNS]):
            others = patterns[index + 1 : _MAX_PATTERNS]
            texts += (text for other in others if (text := common_match(pattern, other)) is not None)
        texts += _uncovered(key, compared, [*texts, condition_key(key).other])
        texts.append(condition_key(key).other)
        if key == "kms:grantoperations":
            texts = [*texts[:-1], *(name for name in ("Decrypt", "DescribeKey") if name not in texts)]
        if condition_key(key).boolean:
            texts = ["false", "true"]
        if key == "aws:sourceip":
            texts = [text for text in texts if not _is_private(text)]
        if key == "kms:requestalias" and self._facts.aliases is not None:
            texts = list(self._facts.aliases)
        result = self._text_cache[key] = tuple(dict.fromkeys(texts))
        return result

    def _chosen(self, key: str) -> tuple[Value, ...]:
        return _as_values(key, self._texts(key))

    def _of_service(self, key: str, caller: Caller, level: int) -> tuple[Value, ...]:
        direct: tuple[Value, ...] = ("false",) if condition_key(key).boolean else (None,)
        if level < THROUGH_SERVICES or caller.kind is Kind.SERVICE:
            # A service that calls on its own behalf can create grants for its resources.
            return ("false", "true") if caller.kind is Kind.SERVICE and key == "kms:grantisforawsresource" else direct
        return tuple(dict.fromkeys((*direct, *_as_values(key, self._texts(key)))))

    def _of_network(self, key: str, level: int) -> tuple[Value, ...]:
        if level >= INSIDE_NETWORKS:
            return _as_values(key, self._texts(key))
        compared = self._compared.get(key, ())
        texts = [
            text
            for family, value in compared
            if _is_any_network(family, value)
            for text in sample_values(family, value)
            if key != "aws:sourceip" or not _is_private(text)
        ]
        return _as_values(key, (*texts, condition_key(key).other))

    def _of_clock(self, key: str) -> tuple[Value, ...]:
        if self._organization.now is not None:
            return (_date(self._organization.now.timestamp()),)
        return _as_values(
            key, tuple(text for text in self._texts(key) if text != condition_key(key).other) or (_date(0),)
        )

    def _tag(self, name: str) -> Value:
        if self._facts.tags is None:
            return UNKNOWN
        # The tag key is part of the condition key, which is case-insensitive.
        values = {value for key, value in self._facts.tags.items() if key.lower() == name}
        return UNKNOWN if len(values) > 1 else next(iter(values), None)


_VALUE = frozenset({"value"})
_ACCOUNT = Part(_VALUE, alphabet="9876543210", minimum=12, exact=True)
_TEXT = Part(_VALUE, alphabet="x" + "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "x"))
_FORMS = {
    "aws:sourceaccount": (_ACCOUNT,),
    "aws:sourcearn": (Part(_VALUE, "arn:aws:"), _TEXT, Part(_VALUE, ":us-east-1:"), _ACCOUNT, Part(_VALUE, ":"), _TEXT),
    "kms:viaservice": (_TEXT, Part(_VALUE, ".amazonaws.com")),
}
"""The forms of the values of some condition keys; others can be any text."""
_MAX_WALKED = 8


def _uncovered(key: str, compared: ComparedValues, texts: list[str]) -> list[str]:
    """Return a text for each combination of a few patterns that some text has and none of the given ones."""
    atoms = [Atom("value", family, (value,)) for family, value in compared if family in {"like", "arn"}]
    if not any(has_wildcard(atom.values[0]) for atom in atoms) or len(atoms) > _MAX_WALKED:
        return []
    exact = {kind: tuple(value for family, value in compared if family == kind) for kind in ("text", "caseless")}
    atoms += [Atom("value", kind, values) for kind, values in exact.items() if values]
    covered = {each for text in texts if text for each in walk((Part(_VALUE, text),), tuple(atoms))}
    try:
        found = walk(_FORMS.get(key, (_TEXT,)), tuple(atoms))
    except TooManyStatesError:
        return []
    return ["".join(parts) for each, parts in found.items() if each not in covered]


_PRIVATE = [
    ipaddress.ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
]


def _is_private(text: str) -> bool:
    """Whether an address is private; aws:SourceIp is the public address of the caller."""
    address = parse_network(text)
    return address is not None and any(address[0] in network for network in _PRIVATE)


def _is_any_network(family: str, value: str) -> bool:
    """Whether a network condition is so wide that it includes anyone."""
    if family == "ip":
        network = parse_network(value)
        return network is not None and network.prefixlen < (8 if network.version == 4 else 32)
    return value.replace("*", "").replace("?", "") in {"", "vpc-", "vpce-"} and has_wildcard(value)


def _as_values(key: str, texts: tuple[str, ...]) -> tuple[Value, ...]:
    absent: tuple[Value, ...] = () if condition_key(key).always_present else (None,)
    if not condition_key(key).multivalued:
        return (*absent, *texts)
    every: tuple[Value, ...] = (tuple(texts), tuple(texts[:-1])) if len(texts) > 1 else ()
    return tuple(dict.fromkeys((*absent, *((text,) for text in texts), *every)))
