"""The comparison with other tools, on small results in the format of each tool."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from benchmarks.peers import parsers
from benchmarks.peers.compare import (
    HERE,
    Check,
    CheckResult,
    Difference,
    Finding,
    checks,
    compare,
    kind_of,
    kinds,
    listing,
    outcome_of,
    table,
)
from benchmarks.peers.runners import TOOLS, ToolRun
from reports.rules.loader import rule_files

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1111"
OTHER = "arn:aws:kms:eu-west-1:123456789012:key/2222"
ROTATION = Check("prowler", "kms_cmk_rotation_enabled", ("key-rotation",), "", "")


def test_prowler_findings_are_results_per_resource(tmp_path: Path) -> None:
    """An OCSF finding has check, resource and status; MANUAL becomes unknown."""
    entries = [
        {"metadata": {"event_code": "a"}, "resources": [{"uid": KEY}], "status_code": "PASS"},
        {"metadata": {"event_code": "a"}, "resources": [{"uid": OTHER}], "status_code": "MANUAL"},
    ]
    (tmp_path / "123456789012.ocsf.json").write_text(json.dumps(entries))
    assert list(parsers.prowler(tmp_path)) == [CheckResult("a", KEY, "pass"), CheckResult("a", OTHER, "unknown")]


def test_custodian_passes_resources_that_it_does_not_select(tmp_path: Path) -> None:
    """The second policy of a pair selects failures; a pair without the second result is ignored."""
    selected = {
        "key-rotation-scope": [{"KeyArn": KEY}, {"KeyArn": OTHER}],
        "key-rotation": [{"KeyArn": OTHER}],
        "bucket-kms-scope": [{"Name": "b"}],
        "bucket-kms": [],
        "key-deletion-scope": [{"KeyArn": KEY}],
    }
    for policy, resources in selected.items():
        directory = tmp_path / "eu-west-1" / policy
        directory.mkdir(parents=True)
        (directory / "resources.json").write_text(json.dumps(resources))
    assert list(parsers.custodian(tmp_path)) == [
        CheckResult("bucket-kms", "arn:aws:s3:::b", "pass"),
        CheckResult("key-rotation", KEY, "pass"),
        CheckResult("key-rotation", OTHER, "fail"),
    ]


def test_scoutsuite_passes_entries_that_it_does_not_flag(tmp_path: Path) -> None:
    """A finding covers all entries of its path and flags some; item paths are longer than the path of the finding."""
    keys = {"1111": {"arn": KEY}, "2222": {"arn": OTHER}}
    finding = {"path": "kms.regions.id.keys.id", "items": ["kms.regions.eu-west-1.keys.2222.rotation_enabled"]}
    results = {"services": {"kms": {"regions": {"eu-west-1": {"keys": keys}}, "findings": {"rotation": finding}}}}
    directory = tmp_path / "scoutsuite-results"
    directory.mkdir()
    (directory / "scoutsuite_results_x.js").write_text("scoutsuite_results =\n" + json.dumps(results))
    assert list(parsers.scoutsuite(tmp_path)) == [
        CheckResult("rotation", KEY, "pass"),
        CheckResult("rotation", OTHER, "fail"),
    ]


@pytest.mark.parametrize(
    ("theirs", "ours", "outcome"),
    [
        ("pass", "pass", "both pass"),
        ("fail", "fail", "both fail"),
        ("pass", "fail", "we fail"),
        ("fail", "pass", "they fail"),
        ("fail", "unknown", "we unknown"),
        ("unknown", "pass", "they unknown"),
        ("fail", "not_applicable", "we skip"),
        (None, "not_applicable", "neither applies"),
        ("unknown", "unknown", "neither applies"),
        (None, "pass", "only we"),
        ("pass", None, "only they"),
    ],
)
def test_two_results_make_one_outcome(theirs: str | None, ours: str | None, outcome: str) -> None:
    """Unknown, not applicable and not listed are distinct from pass and fail."""
    assert outcome_of(theirs, ours) == outcome  # type: ignore[arg-type]  # parametrized texts


def test_the_worst_of_several_results_counts() -> None:
    """If several rules correspond to a check, a failure of any rule is the result, with its reason."""
    check = Check("x", "public", ("key-policy-public", "key-public-via-service"), ":kms:", "")
    findings = [
        Finding("key-policy-public", KEY, "pass", "closed"),
        Finding("key-public-via-service", KEY, "fail", "open through S3"),
        Finding("key-rotation", KEY, "fail", "another question"),
        Finding("key-policy-public", "arn:aws:s3:::b", "fail", "another kind of resource"),
    ]
    counts, differences = compare(
        check, [CheckResult("public", KEY, "pass"), CheckResult("rotation", KEY, "fail")], findings
    )
    assert counts == {"we fail": 1}
    assert differences == [Difference(check, KEY, "we fail", "pass", "fail", "open through S3")]


def test_unexplained_differences_are_listed() -> None:
    """The listing groups differences by kind and puts unexplained ones at the end."""
    denied = Finding("key-rotation", KEY, "unknown", "The key could not be described.")
    unexplained = Finding("key-rotation", OTHER, "pass", "It rotates every 365 days.")
    counts, differences = compare(ROTATION, [CheckResult(ROTATION.name, OTHER, "fail")], [denied, unexplained])
    text = listing(differences)
    assert [kind and kind.id for kind in map(kind_of, differences)] == ["denied-key-missing", None]
    assert text.index("denied-key-missing: 1") < text.index("NOT EXPLAINED: 1") < text.index(OTHER)
    assert table([(ROTATION, counts)]).splitlines()[2:] == [
        "| prowler `kms_cmk_rotation_enabled` | key-rotation | 1 | 1 |"
    ]


def test_the_mapping_refers_to_existing_checks_and_rules() -> None:
    """Every check belongs to a tool, every rule is shipped, and every kind refers to mapped checks."""
    rules = {Path(source).stem for source, _, _ in rule_files()}
    assert {check.tool for check in checks()} == set(TOOLS)
    assert {rule for check in checks() for rule in check.rules} <= rules
    assert {name for kind in kinds() for name in kind.checks} <= {f"{check.tool}/{check.name}" for check in checks()}


def test_custodian_policies_match_the_mapping(tmp_path: Path) -> None:
    """The policies are pairs, one for each mapped check, and contain the known accounts."""
    tool_run = ToolRun(
        "123456789012", ("eu-west-1",), {}, "", "o-exampleorg1", ("123456789012", "222200001111"), tmp_path
    )
    arguments = TOOLS["custodian"].command(tool_run)
    policies = yaml.safe_load((tmp_path / arguments[-1]).read_text())["policies"]
    names = {check.name for check in checks() if check.tool == "custodian"}
    assert {policy["name"] for policy in policies} == names | {f"{name}-scope" for name in names}
    across = next(policy for policy in policies if policy["name"] == "key-cross-account")
    assert across["filters"][-1]["whitelist"] == ["123456789012", "222200001111"]


def test_versions_are_pinned() -> None:
    """The requirements of each tool pin its package to one version."""
    for tool in TOOLS.values():
        assert (HERE / f"{tool.name}.txt").read_text().startswith(f"{tool.package}==")


def test_the_reasons_of_differences_are_those_of_the_rules() -> None:
    """A pattern that no rule's text matches would leave its differences unexplained."""
    differences = yaml.safe_load((HERE / "differences.yaml").read_text(encoding="utf-8"))
    views = (file.read_text(encoding="utf-8") for file in files("reports.mart").joinpath("views").iterdir())
    texts = "\n".join([*(text for _, text, _ in rule_files()), *views])
    # A pattern with .* spans texts that the access engine joins.
    patterns = [one["reason_pattern"] for one in differences if ".*" not in one.get("reason_pattern", ".*")]
    alternatives = [part for pattern in patterns for part in ([pattern] if "(" in pattern else pattern.split("|"))]
    assert [part for part in alternatives if not re.search(part, texts)] == []
