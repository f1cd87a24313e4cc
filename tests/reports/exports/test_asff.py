"""ASFF: batches that Security Hub's API model accepts, within the documented limits."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
import orjson
import pytest
from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UserError
from reports.exports.asff import BATCH, Hub, asff, write
from reports.exports.common import RunInfo
from reports.rules.findings import FindingRecord
from tests.reports.exports.conftest import SHOP
from tests.reports.exports.json_schema import draft_2020_12
from tests.reports.exports.strategies import RUN_INFO, findings, lines

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def _text(most: int, pattern: str = r"\S") -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": pattern}


_TIME = _text(64, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
# The API model states types and enumerations; these limits are only in the API reference (AwsSecurityFinding).
LIMITS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "SchemaVersion": {"const": "2018-10-08"},
        "Id": _text(512),
        "ProductArn": _text(2048, r"^arn:aws[a-z-]*:securityhub:[a-z0-9-]+:\d{12}:product/\d{12}/default$"),
        "GeneratorId": _text(512),
        "AwsAccountId": _text(12, r"^\d{12}$"),
        "Region": _text(16),
        "Types": {"type": "array", "maxItems": 50, "items": _text(256, r"^[^/]+/[^/]+$")},
        "CreatedAt": _TIME,
        "UpdatedAt": _TIME,
        "FirstObservedAt": _TIME,
        "LastObservedAt": _TIME,
        "Title": _text(256),
        "Description": _text(1024),
        "Remediation": {"properties": {"Recommendation": {"properties": {"Text": _text(512)}}}},
        "ProductFields": {
            "maxProperties": 50,
            "propertyNames": {"maxLength": 128},
            "additionalProperties": _text(2048),
        },
        "Resources": {
            "minItems": 1,
            "maxItems": 32,
            "items": {"properties": {"Id": _text(512), "Type": _text(256), "Region": _text(16)}},
        },
        "Compliance": {
            "properties": {
                "RelatedRequirements": {"minItems": 1, "maxItems": 32, "items": _text(64)},
                "StatusReasons": {"items": {"properties": {"Description": _text(2048)}}},
            }
        },
    },
}


@cache
def limits() -> Validator:
    return draft_2020_12(LIMITS)


@cache
def operation() -> OperationModel:
    return botocore.session.get_session().get_service_model("securityhub").operation_model("BatchImportFindings")


def wrong(value: Any, shape: Shape, path: str = "") -> Iterator[str]:
    """Values that violate the enumerations and patterns of the model, which botocore does not validate."""
    if isinstance(shape, StructureShape):
        for name, one in value.items():
            yield from wrong(one, shape.members[name], f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for one in value:
            yield from wrong(one, shape.member, path)
    elif isinstance(shape, MapShape):
        for one in value.values():
            yield from wrong(one, shape.value, path)
    elif isinstance(shape, StringShape):
        pattern = shape.metadata.get("pattern")
        if (shape.enum and value not in shape.enum) or (pattern and not re.search(pattern, value)):
            yield f"{path}: {value!r}"


def check(line: str) -> list[dict[str, Any]]:
    request = orjson.loads(line)
    shape = operation().input_shape
    assert shape is not None
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert not list(wrong(request, shape))
    imported: list[dict[str, Any]] = request["Findings"]
    for one in imported:
        limits().validate(one)
        assert len(orjson.dumps(one)) < 240_000
    assert len({(one["ProductArn"], one["AwsAccountId"]) for one in imported}) == 1
    assert len(imported) <= BATCH
    assert len(line.encode()) < 6_000_000
    return imported


def test_every_finding_can_be_imported(everything: list[FindingRecord], run_info: RunInfo) -> None:
    """Each batch is for one account and region and within the limits; each finding occurs once, with its own id."""
    ordered = sorted(everything, key=lambda one: (one.account_id or "", one.region or ""))
    out = io.StringIO()
    write(out, run_info, ordered)
    imported = [one for line in lines(out.getvalue()) for one in check(line)]
    assert len({one["Id"] for one in imported}) == len(everything)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("off", ("FAILED", "NEW", "ACTIVE", "MEDIUM")),
        ("accepted", ("FAILED", "SUPPRESSED", "ACTIVE", "MEDIUM")),
        ("dark", ("WARNING", "NEW", "ACTIVE", "MEDIUM")),
        ("unseen", ("WARNING", "SUPPRESSED", "ACTIVE", "MEDIUM")),
        ("again", ("PASSED", "RESOLVED", "ARCHIVED", "INFORMATIONAL")),
        ("stopped", ("NOT_AVAILABLE", "RESOLVED", "ARCHIVED", "INFORMATIONAL")),
    ],
)
def test_states(rotation: dict[str, FindingRecord], run_info: RunInfo, key: str, expected: tuple[str, ...]) -> None:
    """Waived is SUPPRESSED, resolved is ARCHIVED, unknown is WARNING: never PASSED or FAILED."""
    one = asff(replace(rotation[key], severity="medium"), run_info)
    states = (one["Compliance"]["Status"], one["Workflow"]["Status"], one["RecordState"], one["Severity"]["Label"])
    assert states == expected


def test_account_and_region(rotation: dict[str, FindingRecord], run_info: RunInfo) -> None:
    """A finding belongs to its account and region, to the home region if it is global, or to the configured Security Hub."""
    off = rotation["off"]
    assert asff(off, run_info)["ProductArn"] == f"arn:aws:securityhub:eu-west-1:{SHOP}:product/{SHOP}/default"
    assert asff(replace(off, region="global"), run_info)["Region"] == "us-east-1"
    china = replace(off, resource_arn="arn:aws-cn:iam::1:x", region="global")
    assert asff(china, run_info)["ProductArn"].startswith("arn:aws-cn:securityhub:cn-north-1:")
    secret = asff(replace(off, resource_arn="arn:aws-iso:kms:us-iso-east-1:1:key/x"), run_info)
    assert secret["Resources"][0]["Partition"] == "aws-us-iso"
    gov = asff(off, run_info, Hub("999900001111", "us-gov-west-1"))
    assert gov["ProductArn"].startswith("arn:aws-us-gov:securityhub:us-gov-west-1:")
    filed = asff(off, run_info, Hub("999900001111", "eu-central-1"))
    assert (filed["AwsAccountId"], filed["Region"]) == ("999900001111", "eu-central-1")
    assert filed["ProductFields"]["kmsledger/ResourceAccount"] == SHOP
    assert asff(replace(off, account_id=None), run_info)["AwsAccountId"] == run_info.management_account
    with pytest.raises(UserError, match="--security-hub"):
        asff(replace(off, account_id=None), replace(run_info, management_account=None))


def test_long_texts_are_cut(rotation: dict[str, FindingRecord], run_info: RunInfo) -> None:
    """A text over the limit is cut and ends with an ellipsis; a batch has 100 findings at most."""
    long = replace(rotation["off"], title="t" * 300, reason="r" * 2_000, fix="f" * 600, frameworks=["f" * 70] * 40)
    one = asff(long, run_info)
    assert one["Title"] == "t" * 255 + "…"
    assert one["Description"] == "r" * 1023 + "…"
    assert one["Remediation"]["Recommendation"]["Text"] == "f" * 511 + "…"
    assert one["Compliance"]["RelatedRequirements"] == ["f" * 63 + "…"] * 32
    out = io.StringIO()
    write(out, run_info, [long] * 201)
    assert [len(check(line)) for line in lines(out.getvalue())] == [100, 100, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(findings(), max_size=5))
def test_any_findings_can_be_imported(found: list[FindingRecord]) -> None:
    """For any texts and missing values, the batches are valid and unknown stays unknown."""
    out = io.StringIO()
    write(out, RUN_INFO, found)
    imported = [one for line in lines(out.getvalue()) for one in check(line)]
    assert len(imported) == len(found)
    for one, finding in zip(imported, found, strict=True):
        status = one["Compliance"]["Status"]
        assert (status in {"PASSED", "FAILED"}) == (finding.unwaived_status in {"pass", "fail"})
