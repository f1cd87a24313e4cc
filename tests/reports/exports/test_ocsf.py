"""OCSF: events that the published schema accepts, with unknown kept apart from pass and fail."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from reports.exports.common import RunInfo
from reports.exports.ocsf import VERSION, event, write
from reports.rules.findings import FindingRecord
from tests.reports.exports.conftest import HOSTILE, IRELAND, SHOP
from tests.reports.exports.json_schema import draft_2020_12
from tests.reports.exports.strategies import RUN_INFO, findings, lines

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


@cache
def schema() -> Validator:
    published = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    return draft_2020_12(published.get_class_schema("compliance_finding", profiles=["cloud"]))


def test_every_finding_is_a_valid_event(everything: list[FindingRecord], run_info: RunInfo) -> None:
    """All findings of a mart, of every status, are valid Compliance Findings of OCSF 1.8.0."""
    out = io.StringIO()
    write(out, run_info, everything)
    assert {one.status for one in everything} == {"pass", "fail", "unknown", "waived", "not_applicable"}
    events = lines(out.getvalue())
    assert len(events) == len(everything)
    for line in events:
        schema().validate(orjson.loads(line))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("off", (2, 1, 3)),
        ("late", (1, 1, 3)),
        ("accepted", (2, 3, 3)),
        ("dark", (2, 1, 0)),
        ("unseen", (2, 3, 0)),
        ("again", (3, 4, 1)),
        ("stopped", (3, 4, 99)),
    ],
)
def test_life_and_verdict(
    rotation: dict[str, FindingRecord], run_info: RunInfo, key: str, expected: tuple[int, int, int]
) -> None:
    """Create, Update and Close follow the finding's lifecycle; waived is Suppressed; unknown is neither Pass nor Fail."""
    one = event(rotation[key], run_info)
    assert (one["activity_id"], one["status_id"], one["compliance"]["status_id"]) == expected
    assert one["type_uid"] == 200300 + one["activity_id"]


def test_what_an_event_says(rotation: dict[str, FindingRecord], run_info: RunInfo) -> None:
    """An event has its account and region, times in milliseconds, standards and requirements, a fix, and a stable id."""
    one = event(rotation["again"], run_info)
    assert one["time"] == 1_763_780_400_000 + 365 * 86_400_000 - 86_400_000
    assert one["finding_info"]["first_seen_time"] == one["time"] - 86_400_000 == one["finding_info"]["last_seen_time"]
    assert one["end_time"] == one["time"]
    assert one["cloud"]["account"] == {"uid": SHOP, "name": "Shop", "type_id": 10, "type": "AWS Account"}
    assert (one["cloud"]["provider"], one["cloud"]["region"], one["cloud"]["cloud_partition"]) == (
        "AWS",
        IRELAND,
        "aws",
    )
    assert one["resources"][0]["owner"] == {"name": HOSTILE}
    assert one["resources"][0]["uid"] == f"arn:aws:kms:{IRELAND}:{SHOP}:key/again"
    assert "CIS AWS Foundations Benchmark 3.0.0" in one["compliance"]["standards"]
    assert "CIS AWS Foundations Benchmark 3.0.0 - 3.6" in one["compliance"]["requirements"]
    assert all(address.startswith("https://") for address in one["remediation"]["references"])
    assert "CLI: " in one["remediation"]["desc"]
    assert one["finding_info"]["uid"] != event(rotation["off"], run_info)["finding_info"]["uid"]
    assert "age_days" in one["unmapped"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(findings())
def test_any_finding_is_valid(finding: FindingRecord) -> None:
    """For any texts and missing values, the event is valid and one line, and unknown stays unknown."""
    out = io.StringIO()
    write(out, RUN_INFO, [finding])
    assert out.getvalue().count("\n") == 1
    one: dict[str, Any] = orjson.loads(out.getvalue())
    schema().validate(one)
    assert (one["compliance"]["status_id"] in {1, 3}) == (finding.unwaived_status in {"pass", "fail"})
