"""Interprets CloudTrail's basic and advanced event selectors as the service applies them.

Sources: the CloudTrail API reference, data types EventSelector, AdvancedEventSelector and AdvancedFieldSelector. A trail
records what any one of its selectors selects; all fields of an advanced selector have to match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

import duckdb
import orjson

from reports.mart.extension import load_rows

KMS = "kms.amazonaws.com"
_OTHERS = ""
"""An event source that no selector names; it represents all other services."""
_POSITIVE: Mapping[str, Callable[[str, str], bool]] = {
    "Equals": str.__eq__,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}
_COLUMNS = (
    "selectors VARCHAR, management_events VARCHAR, kms_events VARCHAR, kms_network_events BOOLEAN, "
    "selectors_reason VARCHAR"
)


class Share(IntEnum):
    """How many of a kind of events a trail selects."""

    NONE = 0
    SOME = 1
    """Depends on fields that are not evaluated, such as the event's name."""
    ALL = 2


@dataclass(frozen=True, slots=True)
class Events:
    """The selected events: ``all``, only ``read`` or ``write`` events, ``some`` or ``none``; None if unknown."""

    management_events: str | None = None
    """Management events of services in general."""
    kms_events: str | None = None
    """Management events of KMS: calls of all its operations; cryptographic operations are read events."""
    kms_network_events: bool | None = None
    """Whether calls to KMS through VPC endpoints may be selected as network activity events."""
    selectors_reason: str | None = None
    """Why the selected events are unknown."""


def events_of(selectors: str) -> Events:
    """Evaluate selectors in the form of :class:`models.tables.trails.TrailSelector`; invalid ones yield unknown events."""
    try:
        found = orjson.loads(selectors)
        basic, advanced = found["EventSelectors"], found["AdvancedEventSelectors"]
        if not basic and not advanced:
            return Events(selectors_reason="the answer names no event selector")
        general = [_management(basic, advanced, _OTHERS, reading) for reading in (True, False)]
        of_kms = [_management(basic, advanced, KMS, reading) for reading in (True, False)]
        network = _advanced(advanced, {"eventCategory": "NetworkActivity", "eventSource": KMS})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Events(selectors_reason=f"the event selectors cannot be read ({type(error).__name__})")
    return Events(_word(*general), _word(*of_kms), network > Share.NONE)


def create(duck: duckdb.DuckDBPyConnection) -> None:
    """Fill ``internal.event_selector`` with the evaluation of each distinct selector text in the ledger."""
    known = duck.execute("SELECT DISTINCT selectors FROM internal.trail_selector").fetchall()
    rows = ({"selectors": text, **asdict(events_of(text))} for (text,) in known)
    load_rows(duck, "event_selector", _COLUMNS, rows)


def _management(basic: Sequence[Any], advanced: Sequence[Any], source: str, reading: bool) -> Share:
    read_only = "true" if reading else "false"
    found = max((_basic(one, source, reading) for one in basic), default=Share.NONE)
    return max(
        found, _advanced(advanced, {"eventCategory": "Management", "eventSource": source, "readOnly": read_only})
    )


def _basic(selector: Mapping[str, Any], source: str, reading: bool) -> Share:
    wanted = selector.get("ReadWriteType", "All")
    if wanted not in {"All", "ReadOnly", "WriteOnly"}:
        raise ValueError(wanted)
    if not selector.get("IncludeManagementEvents", True) or source in (
        selector.get("ExcludeManagementEventSources") or ()
    ):
        return Share.NONE
    return Share.ALL if wanted in {"All", "ReadOnly" if reading else "WriteOnly"} else Share.NONE


def _advanced(selectors: Sequence[Any], event: Mapping[str, str]) -> Share:
    """How many of the events with these fields any selector selects."""
    return max(
        (min((_field(field, event) for field in one["FieldSelectors"]), default=Share.NONE) for one in selectors),
        default=Share.NONE,
    )


def _field(selector: Mapping[str, Any], event: Mapping[str, str]) -> Share:
    value = event.get(selector["Field"])
    if value is None:
        return Share.SOME
    positive = [(holds, one) for name, holds in _POSITIVE.items() for one in selector.get(name) or ()]
    negative = [(holds, one) for name, holds in _POSITIVE.items() for one in selector.get(f"Not{name}") or ()]
    if not positive and not negative:
        raise ValueError(selector["Field"])
    wanted = not positive or any(holds(value, one) for holds, one in positive)
    return Share.ALL if wanted and not any(holds(value, one) for holds, one in negative) else Share.NONE


def _word(reading: Share, writing: Share) -> str:
    if reading == writing:
        return {Share.ALL: "all", Share.SOME: "some", Share.NONE: "none"}[reading]
    if reading is Share.NONE and writing is Share.ALL:
        return "write"
    if writing is Share.NONE and reading is Share.ALL:
        return "read"
    return "some"
