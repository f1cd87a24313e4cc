"""Runs the examples of the selected rules once, shared by all pytest-xdist workers."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from reports.pipeline import check_examples
from reports.rules.loader import Rule, RuleError, parse_rule, rule_files

FILES = {name.removesuffix(".sql"): (name, text) for name, text, _ in rule_files()}


def problems_of(request: pytest.FixtureRequest, base: Path, *, with_gaps: bool) -> dict[str, list[str]]:
    """The problems of the rules whose tests in this module are selected, by rule; all examples run in one ledger."""
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    file = shared / f"examples-{'gaps' if with_gaps else 'plain'}.json"
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            chosen = {
                item.callspec.params.get("rule_id")
                for item in request.session.items
                if hasattr(item, "callspec") and item.path == request.path
            }
            file.write_text(json.dumps(_run(sorted(chosen & set(FILES)), with_gaps=with_gaps)), encoding="utf-8")
    problems: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))
    return problems


def _run(chosen: list[str], *, with_gaps: bool) -> dict[str, list[str]]:
    rules: list[Rule] = []
    problems: dict[str, list[str]] = {}
    for rule_id in chosen:
        try:
            rules.append(parse_rule(*FILES[rule_id], complete=True))
        except RuleError as error:
            problems[rule_id] = [str(error)]
    return problems | {report.rule.rule_id: report.problems for report in check_examples(rules, with_gaps=with_gaps)}
