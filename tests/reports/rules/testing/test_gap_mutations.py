"""Runs the examples with a gap in place of each operation's response: the result must be unknown, never pass."""

from __future__ import annotations

import pytest

from reports.pipeline import check_examples
from reports.rules.loader import parse_rule
from reports.rules.testing.runner import Report
from tests.reports.rules.example_runs import FILES, problems_of

FAST_RULES = ("key-rotation", "secret-customer-managed-key")
"""A rule of keys and one of resources; the deep tests run all rules."""


@pytest.fixture(scope="module")
def problems(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return problems_of(request, tmp_path_factory.getbasetemp(), with_gaps=True)


@pytest.mark.parametrize(
    "rule_id",
    [rule_id if rule_id in FAST_RULES else pytest.param(rule_id, marks=pytest.mark.deep) for rule_id in FILES],
)
def test_without_a_response_the_result_is_unknown(rule_id: str, problems: dict[str, list[str]]) -> None:
    """Without the response of an operation a rule returns unknown, unless the response makes no difference."""
    if problems[rule_id]:
        pytest.fail("\n".join(problems[rule_id]), pytrace=False)


FAULTY_RULE = """-- id: {rule_id}
-- title: Something
-- severity: low
-- why: For the test.
-- fix: None.
SELECT {item}_arn AS resource_arn, account_id, region, {item}_arn AS key_arn,
  CASE WHEN {bad} THEN fail('It is so.') ELSE pass('It is so.') END AS verdict
FROM {view}
"""
FAULTY_EXAMPLES = """- cannot: {{unknown: faulty rule, not_applicable: faulty rule}}
- {{name: good, expect: {{k1: pass}}, {good}}}
- {{name: bad, expect: {{k1: fail}}, {bad}}}
"""
SECRET = 'type: "AWS::SecretsManager::Secret"'
FAULTY_RULES = {
    "kms:DescribeKey": (
        ("key", "coalesce(state, 'Enabled') <> 'Enabled'", "keys"),
        "keys: [{id: k1}]",
        "keys: [{id: k1, state: Disabled}]",
    ),
    "kms:GetKeyPolicy": (
        ("key", "NOT coalesce(delegates_to_iam, true)", "keys"),
        "keys: [{id: k1}]",
        "keys: [{id: k1, policy: []}]",
    ),
    "kms:ListGrants": (
        ("key", "coalesce(grants, 0) > 0", "keys"),
        "keys: [{id: k1}]",
        'keys: [{id: k1, grants: [{id: g1, grantee_principal: "{outside}"}]}]',
    ),
    "kms:ListResourceTags": (
        ("key", "coalesce(tags['Owner'], 'x') = ''", "keys"),
        "keys: [{id: k1, tags: {Owner: x}}]",
        'keys: [{id: k1, tags: {Owner: ""}}]',
    ),
    "kms:GetKeyRotationStatus": (
        ("key", "coalesce(rotation_status, 'enabled') = 'disabled'", "keys"),
        "keys: [{id: k1}]",
        "keys: [{id: k1, rotation: disabled}]",
    ),
    "kms:GetKeyLastUsage": (
        ("key", "last_use = 'never_used'", "keys"),
        "keys: [{id: k1, last_use: {used_at: 2026-11-01, operation: Decrypt}}]",
        "keys: [{id: k1, last_use: {never: true}}]",
    ),
    "kms:ListAliases": (
        ("key", "len(aliases) = 0", "keys"),
        "keys: [{id: k1, aliases: [alias/a]}]",
        "keys: [{id: k1}]",
    ),
    "secretsmanager:ListSecrets": (
        ("key", "dependent_resources = 0", "keys"),
        f"keys: [{{id: k1}}], resources: [{{id: r1, {SECRET}, key: k1}}]",
        "keys: [{id: k1}]",
    ),
    "secretsmanager:GetResourcePolicy": (
        ("resource", "resource_arn IN (SELECT resource_arn FROM resource_policies WHERE has_policy)", "resources"),
        f"resources: [{{id: k1, {SECRET}, class: aws_managed}}]",
        f"resources: [{{id: k1, {SECRET}, class: aws_managed, policy: []}}]",
    ),
    "s3:GetEncryptionConfiguration": (
        (
            "resource",
            "resource_arn NOT IN (SELECT resource_arn FROM resource_keys WHERE key_class IN ('customer', 'unknown'))",
            "resources",
        ),
        'keys: [{id: k2}], resources: [{id: k1, type: "AWS::S3::Bucket", key: k2}]',
        'resources: [{id: k1, type: "AWS::S3::Bucket", class: aws_owned}]',
    ),
    "cloudtrail:GetTrailStatus": (
        ("trail", "NOT coalesce(logging, true)", "(SELECT *, home_region AS region FROM trails)"),
        "trails: [{id: k1}]",
        "trails: [{id: k1, status: {logging: false}}]",
    ),
}


CORRECT_RULE = """-- id: correct
-- title: Keys have few grants
-- severity: low
-- why: For the test.
-- fix: None.
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  verdict_of(grants = 0, 'It has ' || coalesce(grants, 0) || ' grants.') AS verdict
FROM keys
"""


CORRECT_EXAMPLES = """- cannot: {not_applicable: it always applies}
- {name: none, expect: {k1: pass}, keys: [{id: k1, state: Disabled, rotation: disabled}]}
- {name: one, expect: {k1: fail}, keys: [{id: k1, grants: [{id: g1, grantee_principal: "{outside}"}]}]}
- {name: denied, expect: {k1: unknown}, keys: [{id: k1}], gaps: [{action: kms:ListGrants, subject: k1}]}
"""


def rule_id_of(action: str) -> str:
    return "faulty-" + action.replace(":", "-").lower()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """The reports of faulty rules and a correct one, by rule ID."""
    folder = tmp_path_factory.mktemp("rules")
    files = {"correct": (CORRECT_RULE, CORRECT_EXAMPLES)}
    for action, ((item, bad, view), good_facts, bad_facts) in FAULTY_RULES.items():
        files[rule_id_of(action)] = (
            FAULTY_RULE.format(rule_id=rule_id_of(action), item=item, bad=bad, view=view),
            FAULTY_EXAMPLES.format(good=good_facts, bad=bad_facts),
        )
    rules = []
    for rule_id, (query, examples) in files.items():
        source = folder / f"{rule_id}.sql"
        source.write_text(query, encoding="utf-8")
        source.with_name(f"{rule_id}.examples.yaml").write_text(examples, encoding="utf-8")
        rules.append(parse_rule(str(source), query))
    return {report.rule.rule_id: report for report in check_examples(rules, with_gaps=True)}


@pytest.mark.deep
@pytest.mark.parametrize("action", FAULTY_RULES)
def test_a_rule_that_ignores_missing_facts_is_reported(action: str, reports: dict[str, Report]) -> None:
    """A rule that passes or fails unread facts is reported with file, example, operation and expected result."""
    report = reports[rule_id_of(action)]
    matching = [problem for problem in report.problems if f"without {action}, expected k1 to be unknown" in problem]
    assert matching, report.problems
    assert f"{rule_id_of(action)}.examples.yaml:" in matching[0]
    assert any(": good: " in problem or ": bad: " in problem for problem in matching)


@pytest.mark.deep
def test_a_rule_may_ignore_facts_that_it_does_not_use(reports: dict[str, Report]) -> None:
    """Missing facts that make no difference do not change the result; mutations prove it."""
    assert reports["correct"].problems == []
    assert reports["correct"].gaps > 10
