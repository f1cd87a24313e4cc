"""The examples of every shipped rule; `-k RULE` runs those of one."""

from __future__ import annotations

import pytest

from reports.compliance.examples import Report, run_examples
from reports.compliance.rules import Rule, RuleError, parse_rule, rule_files

FILES = {name.removesuffix(".sql"): (name, text) for name, text, _ in rule_files()}


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> dict[str, Report | str]:
    """What came of the rules whose tests were chosen, run together in one ledger."""
    chosen = [item.callspec.params["rule_id"] for item in request.session.items if hasattr(item, "callspec")]
    wanted = sorted({one for one in chosen if one in FILES})
    rules: list[Rule] = []
    found: dict[str, Report | str] = {}
    for rule_id in wanted:
        try:
            rules.append(parse_rule(*FILES[rule_id], complete=True))
        except RuleError as error:
            found[rule_id] = str(error)
    return found | {report.rule.rule_id: report for report in run_examples(rules)}


@pytest.mark.parametrize("rule_id", FILES)
def test_the_rule_says_what_its_examples_expect(rule_id: str, reports: dict[str, Report | str]) -> None:
    """A rule has examples of every status that it can have, and says of each what it expects."""
    report = reports[rule_id]
    problems = report.problems if isinstance(report, Report) else [report]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
