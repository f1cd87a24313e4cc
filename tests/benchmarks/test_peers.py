"""The comparison with other tools, on small results in the format of each tool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.peers import parsers
from benchmarks.peers.compare import (
    HERE,
    Check,
    Difference,
    Finding,
    Word,
    checks,
    compare,
    judge,
    kind_of,
    kinds,
    listing,
    table,
)
from benchmarks.peers.runners import TOOLS, Visit
from reports.rules.loader import rule_files

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1111"
OTHER = "arn:aws:kms:eu-west-1:123456789012:key/2222"
ROTATION = Check("prowler", "kms_cmk_rotation_enabled", ("key-rotation",), "", "")


def test_prowler_findings_are_words_on_each_resource(tmp_path: Path) -> None:
    """A finding of OCSF tells check, resource and status; MANUAL is not knowing."""
    entries = [
        {"metadata": {"event_code": "a"}, "resources": [{"uid": KEY}], "status_code": "PASS"},
        {"metadata": {"event_code": "a"}, "resources": [{"uid": OTHER}], "status_code": "MANUAL"},
    ]
    (tmp_path / "123456789012.ocsf.json").write_text(json.dumps(entries))
    assert list(parsers.prowler(tmp_path)) == [Word("a", KEY, "pass"), Word("a", OTHER, "unknown")]


def test_custodian_passes_what_it_considers_and_does_not_select(tmp_path: Path) -> None:
    """Of a pair of policies the second selects failures; a pair whose second half broke off says nothing."""
    selected = {
        "key-rotation-scope": [{"KeyArn": KEY}, {"KeyArn": OTHER}],
        "key-rotation": [{"KeyArn": OTHER}],
        "bucket-kms-scope": [{"Name": "b"}],
        "bucket-kms": [],
        "key-deletion-scope": [{"KeyArn": KEY}],
    }
    for policy, resources in selected.items():
        place = tmp_path / "eu-west-1" / policy
        place.mkdir(parents=True)
        (place / "resources.json").write_text(json.dumps(resources))
    assert list(parsers.custodian(tmp_path)) == [
        Word("bucket-kms", "arn:aws:s3:::b", "pass"),
        Word("key-rotation", KEY, "pass"),
        Word("key-rotation", OTHER, "fail"),
    ]


def test_scoutsuite_passes_what_it_does_not_flag(tmp_path: Path) -> None:
    """A finding looks at all entries of its path and flags some; the item goes deeper than the path."""
    keys = {"1111": {"arn": KEY}, "2222": {"arn": OTHER}}
    finding = {"path": "kms.regions.id.keys.id", "items": ["kms.regions.eu-west-1.keys.2222.rotation_enabled"]}
    results = {"services": {"kms": {"regions": {"eu-west-1": {"keys": keys}}, "findings": {"rotation": finding}}}}
    place = tmp_path / "scoutsuite-results"
    place.mkdir()
    (place / "scoutsuite_results_x.js").write_text("scoutsuite_results =\n" + json.dumps(results))
    assert list(parsers.scoutsuite(tmp_path)) == [Word("rotation", KEY, "pass"), Word("rotation", OTHER, "fail")]


@pytest.mark.parametrize(
    ("theirs", "ours", "outcome"),
    [
        ("pass", "pass", "both pass"),
        ("fail", "fail", "both fail"),
        ("pass", "fail", "we fail"),
        ("fail", "pass", "they fail"),
        ("fail", "unknown", "we unknown"),
        ("unknown", "pass", "they unknown"),
        ("fail", "not_applicable", "we judge not"),
        (None, "not_applicable", "neither judges"),
        ("unknown", "unknown", "neither judges"),
        (None, "pass", "only we"),
        ("pass", None, "only they"),
    ],
)
def test_two_words_make_one_outcome(theirs: str | None, ours: str | None, outcome: str) -> None:
    """Not knowing, not applying and not listing are told from passing and failing."""
    assert judge(theirs, ours) == outcome  # type: ignore[arg-type]  # parametrized texts


def test_several_rules_and_words_count_by_the_worst() -> None:
    """Where several of ours ask what one check asks, a failure of any is our word, with its reason."""
    check = Check("x", "public", ("key-policy-public", "key-public-via-service"), ":kms:", "")
    findings = [
        Finding("key-policy-public", KEY, "pass", "closed"),
        Finding("key-public-via-service", KEY, "fail", "open through S3"),
        Finding("key-rotation", KEY, "fail", "another question"),
        Finding("key-policy-public", "arn:aws:s3:::b", "fail", "another kind of resource"),
    ]
    counts, differences = compare(check, [Word("public", KEY, "pass"), Word("rotation", KEY, "fail")], findings)
    assert counts == {"we fail": 1}
    assert differences == [Difference(check, KEY, "we fail", "pass", "fail", "open through S3")]


def test_a_difference_that_nothing_explains_is_said() -> None:
    """The listing groups differences by kind, and those without one are named at its end."""
    denied = Finding("key-rotation", KEY, "unknown", "The key could not be described.")
    odd = Finding("key-rotation", OTHER, "pass", "It rotates every 365 days.")
    counts, differences = compare(ROTATION, [Word(ROTATION.name, OTHER, "fail")], [denied, odd])
    text = listing(differences)
    assert [kind and kind.id for kind in map(kind_of, differences)] == ["denied-key-missing", None]
    assert text.index("denied-key-missing: 1") < text.index("NOT EXPLAINED: 1") < text.index(OTHER)
    assert table([(ROTATION, counts)]).splitlines()[2:] == [
        "| prowler `kms_cmk_rotation_enabled` | key-rotation | 1 | 1 |"
    ]


def test_the_data_names_what_exists() -> None:
    """Every check belongs to a tool, every rule is shipped, every kind names checks that are mapped."""
    rules = {Path(source).stem for source, _, _ in rule_files()}
    assert {check.tool for check in checks()} == set(TOOLS)
    assert {rule for check in checks() for rule in check.rules} <= rules
    assert {name for kind in kinds() for name in kind.checks} <= {f"{check.tool}/{check.name}" for check in checks()}


def test_custodian_asks_what_is_mapped(tmp_path: Path) -> None:
    """The policies are pairs, one for each mapped check, and are filled with who belongs to us."""
    visit = Visit("123456789012", ("eu-west-1",), {}, "", "o-exampleorg1", ("123456789012", "222200001111"), tmp_path)
    arguments = TOOLS["custodian"].command(visit)
    policies = yaml.safe_load((tmp_path / arguments[-1]).read_text())["policies"]
    names = {check.name for check in checks() if check.tool == "custodian"}
    assert {policy["name"] for policy in policies} == names | {f"{name}-scope" for name in names}
    across = next(policy for policy in policies if policy["name"] == "key-cross-account")
    assert across["filters"][-1]["whitelist"] == ["123456789012", "222200001111"]


def test_versions_are_pinned() -> None:
    """Each tool has its requirements: one package at one version."""
    for tool in TOOLS.values():
        assert (HERE / f"{tool.name}.txt").read_text().startswith(f"{tool.package}==")
