"""The events that basic and advanced selectors select, compared with an evaluation of each single event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hashing import canonical_json
from reports.mart.event_selectors import KMS, Events, events_of

NAMES = ("Decrypt", "DisableKey")
KMS_EVENTS = [
    {"eventCategory": "Management", "eventSource": KMS, "readOnly": read_only, "eventName": name}
    for read_only in ("true", "false")
    for name in NAMES
]


def events(*, basic: list[Any] | None = None, advanced: list[Any] | None = None) -> Events:
    return events_of(canonical_json({"EventSelectors": basic or [], "AdvancedEventSelectors": advanced or []}))


def field(name: str, **operators: list[str]) -> dict[str, Any]:
    return {"Field": name, **operators}


def fields(*found: dict[str, Any]) -> dict[str, Any]:
    return {"FieldSelectors": [field("eventCategory", Equals=["Management"]), *found]}


@pytest.mark.parametrize(
    ("basic", "general", "kms"),
    [
        ([{"ReadWriteType": "All", "IncludeManagementEvents": True}], "all", "all"),
        ([{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}], "write", "write"),
        ([{"ReadWriteType": "ReadOnly"}], "read", "read"),
        ([{"ReadWriteType": "ReadOnly"}, {"ReadWriteType": "WriteOnly"}], "all", "all"),
        ([{"IncludeManagementEvents": False}], "none", "none"),
        ([{"ExcludeManagementEventSources": [KMS]}], "all", "none"),
        ([{"ExcludeManagementEventSources": ["rdsdata.amazonaws.com"]}], "all", "all"),
        ([{"ExcludeManagementEventSources": [KMS]}, {"ReadWriteType": "WriteOnly"}], "all", "write"),
    ],
)
def test_basic_selectors(basic: list[Any], general: str, kms: str) -> None:
    """One matching selector is enough; omitted fields have the defaults of the API."""
    assert events(basic=basic) == Events(general, kms, kms_network_events=False)


@pytest.mark.parametrize(
    ("found", "general", "kms"),
    [
        ([fields()], "all", "all"),
        ([fields(field("readOnly", Equals=["false"]))], "write", "write"),
        ([fields(field("eventSource", NotEquals=[KMS]))], "all", "none"),
        ([fields(field("eventSource", NotEquals=[KMS, "rdsdata.amazonaws.com"]))], "all", "none"),
        ([fields(field("eventSource", NotStartsWith=["kms"]))], "all", "none"),
        ([fields(field("eventSource", Equals=[KMS]))], "none", "all"),
        ([fields(field("eventName", NotEquals=["Decrypt"]))], "some", "some"),
        ([fields(field("eventSource", NotEquals=[KMS])), fields(field("readOnly", Equals=["false"]))], "all", "write"),
        (
            [{"FieldSelectors": [field("eventCategory", Equals=["Data"]), field("resources.type", Equals=["X"])]}],
            "none",
            "none",
        ),
    ],
)
def test_advanced_selectors(found: list[Any], general: str, kms: str) -> None:
    """All fields must match, one matching selector is enough, and a selection by event name is ``some``."""
    assert events(advanced=found) == Events(general, kms, kms_network_events=False)


def test_network_activity_is_told_apart() -> None:
    """Calls through VPC endpoints are events of another category, not management events."""
    network = [field("eventCategory", Equals=["NetworkActivity"]), field("eventSource", Equals=[KMS])]
    assert events(advanced=[{"FieldSelectors": network}]) == Events("none", "none", kms_network_events=True)


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "{}", "[]", "null", '{"EventSelectors":[7],"AdvancedEventSelectors":[]}',
     '{"EventSelectors":[{"ReadWriteType":"Later"}],"AdvancedEventSelectors":[]}',
     '{"EventSelectors":[],"AdvancedEventSelectors":[{"FieldSelectors":[{"Field":"readOnly"}]}]}',
     '{"EventSelectors":[],"AdvancedEventSelectors":[]}'],
)  # fmt: skip
def test_what_cannot_be_read_is_not_known(text: str) -> None:
    """A text that cannot be parsed is unknown, with a reason; it does not count as selecting nothing."""
    found = events_of(text)
    assert found == Events(selectors_reason=found.selectors_reason)
    assert found.selectors_reason


basics = st.fixed_dictionaries(
    {},
    optional={
        "ReadWriteType": st.sampled_from(["All", "ReadOnly", "WriteOnly"]),
        "IncludeManagementEvents": st.booleans(),
        "ExcludeManagementEventSources": st.lists(st.sampled_from([KMS, "rdsdata.amazonaws.com"]), max_size=2),
    },
)
values = {
    "eventCategory": ["Management", "Data"],
    "eventSource": [KMS, "kms", "s3.amazonaws.com", ".com"],
    "readOnly": ["true", "false"],
    "eventName": [*NAMES, "De"],
}
operators = ("Equals", "StartsWith", "EndsWith", "NotEquals", "NotStartsWith", "NotEndsWith")


@st.composite
def field_selectors(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(values)))
    chosen = draw(st.lists(st.sampled_from(operators), min_size=1, max_size=2, unique=True))
    return {"Field": name} | {
        operator: draw(st.lists(st.sampled_from(values[name]), min_size=1, max_size=2)) for operator in chosen
    }


advanced_selectors = st.fixed_dictionaries({"FieldSelectors": st.lists(field_selectors(), min_size=1, max_size=4)})


def basic_selects(selector: Any, event: dict[str, str]) -> bool:
    wanted = {"All": {"true", "false"}, "ReadOnly": {"true"}, "WriteOnly": {"false"}}
    return (
        selector.get("IncludeManagementEvents", True)
        and event["eventSource"] not in selector.get("ExcludeManagementEventSources", [])
        and event["readOnly"] in wanted[selector.get("ReadWriteType", "All")]
    )


def field_selects(selector: Any, event: dict[str, str]) -> bool:
    value = event[selector["Field"]]
    tests: dict[str, Callable[[str, str], bool]] = {
        "Equals": str.__eq__,
        "StartsWith": str.startswith,
        "EndsWith": str.endswith,
    }
    hits = {name: [bool(test(value, one)) for one in selector.get(name, [])] for name, test in tests.items()}
    misses = [test(value, one) for name, test in tests.items() for one in selector.get(f"Not{name}", [])]
    wanted = [hit for found in hits.values() for hit in found]
    return (not wanted or any(wanted)) and not any(misses)


@given(st.lists(basics, max_size=3), st.lists(advanced_selectors, max_size=3))
def test_the_word_agrees_with_each_single_event(basic: list[Any], advanced: list[Any]) -> None:
    """``all``, ``read``, ``write`` and ``none`` are true for every single event of KMS."""
    if basic:
        advanced = []
    if not basic and not advanced:
        return
    word = events(basic=basic, advanced=advanced).kms_events
    selected = {
        (event["readOnly"], event["eventName"]): any(basic_selects(one, event) for one in basic)
        or any(all(field_selects(field, event) for field in one["FieldSelectors"]) for one in advanced)
        for event in KMS_EVENTS
    }
    promised = {"all": (True, True), "read": (True, False), "write": (False, True), "none": (False, False)}
    if word in promised:
        reading, writing = promised[word]
        assert selected == {
            (read_only, name): reading if read_only == "true" else writing
            for read_only in ("true", "false")
            for name in NAMES
        }
    else:
        assert word == "some"


@given(st.lists(basics, min_size=1, max_size=3), basics)
def test_another_selector_never_takes_events_away(basic: list[Any], more: Any) -> None:
    """An additional selector never reduces the selected events."""
    order = {"none": 0, "some": 1, "read": 1, "write": 1, "all": 2}
    before, after = events(basic=basic).kms_events, events(basic=[*basic, more]).kms_events
    assert before
    assert after
    assert order[after] >= order[before]
