"""Runs the examples of every shipped rule; `-k RULE` selects one rule."""

from __future__ import annotations

import pytest

from tests.reports.rules.example_runs import FILES, problems_of


@pytest.fixture(scope="module")
def problems(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return problems_of(request, tmp_path_factory.getbasetemp(), with_gaps=False)


@pytest.mark.parametrize("rule_id", FILES)
def test_the_rule_matches_its_examples(rule_id: str, problems: dict[str, list[str]]) -> None:
    """A rule has an example of every possible status, and returns the expected results."""
    if problems[rule_id]:
        pytest.fail("\n".join(problems[rule_id]), pytrace=False)
