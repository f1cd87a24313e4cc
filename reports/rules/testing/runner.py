"""Runs the examples of rules: all in one ledger with one mart, comparing each rule's results with the expected ones.

With gaps, each example also runs once per operation without that operation's response: the rule must then return unknown,
unless mutations show that the response makes no difference (`docs/rules.md`).
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path

import duckdb

from models.settings import Settings
from models.severities import STATUSES
from reports.mart.connection import connect
from reports.rules.lint import check_branches
from reports.rules.loader import Rule, RuleError, read_text
from reports.rules.runner import population
from reports.rules.testing import gap_mutations as gaps
from reports.rules.testing.fixture import VENDOR, Facts
from reports.rules.testing.ledger_writer import write
from reports.rules.testing.loader import NO_ROW, Example, Examples, read_examples
from reports.rules.testing.operation_facts import OF_ITEM
from reports.rules.testing.runs import facts_of
from reports.rules.waivers import WAIVER_RULES

MartBuilder = Callable[[Settings, Sequence[Rule]], None]
"""Analyzes access in the ledger that the settings name, and builds its mart with the tables of these rules."""
RuleResult = tuple[str, str]
"""Status and reason; the status is ``none`` if the rule returned no row."""
_ResultRow = tuple[str, str, str]
"""The ARN of a resource, with status and reason."""


@dataclass(slots=True)
class Report:
    """The examples of one rule and their problems."""

    rule: Rule
    examples: Examples | None = None
    problems: list[str] = field(default_factory=list)
    """Each with file, line, example, expected and actual result."""
    gaps: int = 0
    """The number of variants with a gap."""


@dataclass(slots=True)
class _Case:
    """A variant of an example in the ledger, and the results of the rule."""

    example: Example
    runs: list[Facts]
    action: str | None = None
    subject: str | None = None
    results: dict[str, RuleResult] = field(default_factory=dict)


def examples_file(rule: Rule) -> tuple[str, str] | None:
    """Name and text of a rule's examples file, or None if it does not exist. Raises RuleError if it cannot be read."""
    name = rule.source.removesuffix(".sql") + ".examples.yaml"
    file = Path(name) if Path(name).name != name else resources.files("reports.rules").joinpath("shipped", name)
    return (name, read_text(file, "examples")) if file.is_file() else None


def run_examples(rules: Iterable[Rule], build_mart: MartBuilder, *, with_gaps: bool = False) -> list[Report]:
    """Run the examples of rules with the default parameters, independent of the user's settings."""
    reports = [_read(rule) for rule in rules]
    numbers = itertools.count()
    cases = {report.rule.rule_id: _cases(report, numbers) for report in reports}
    variants = {
        report.rule.rule_id: _variants(cases[report.rule.rule_id], numbers) if with_gaps else [] for report in reports
    }
    with tempfile.TemporaryDirectory(prefix="kmsledger-") as directory:
        # One file: the second build takes over the schema of the first.
        evaluate = partial(_evaluate, reports, build_mart, Path(directory) / "examples.duckdb")
        evaluate({rule_id: [*cases[rule_id], *variants[rule_id]] for rule_id in cases})
        for report in reports:
            report.gaps = len(variants[report.rule.rule_id])
            for case in cases[report.rule.rule_id]:
                _compare(report, case)
        if with_gaps:
            _mutate(reports, evaluate, cases, variants, numbers)
    return reports


def _read(rule: Rule) -> Report:
    report = Report(rule, problems=[f"{rule.source}:{line}: {text}" for line, text in check_branches(rule.query)])
    try:
        file = examples_file(rule)
        if file is None and rule.rule_id in WAIVER_RULES:
            pass  # these rules read waivers from the settings, which examples do not have
        elif file is None:
            report.problems.append(
                f"{rule.source}: the rule has no examples: add {rule.rule_id}.examples.yaml beside it"
            )
        else:
            report.examples = read_examples(*file, rule.rule_id, rule.parameters)
    except RuleError as error:
        report.problems.append(str(error))
    if report.examples is not None:
        report.problems += _missing_statuses(report.examples, rule.source.removesuffix(".sql") + ".examples.yaml")
    return report


def _missing_statuses(examples: Examples, source: str) -> Iterator[str]:
    expected = {status for example in examples.examples for status in example.expect.values()}
    for status in STATUSES:
        if status not in expected and status not in examples.cannot:
            yield (
                f"{source}:1: no example expects {status}: add one, or state why it is impossible "
                f"(- cannot: {{{status}: REASON}} as first item)"
            )
        if status in expected and status in examples.cannot:
            yield f"{source}:1: 'cannot' excludes {status}, but an example expects it: remove one of the two"


def _cases(report: Report, numbers: Iterator[int]) -> list[_Case]:
    cases: list[_Case] = []
    for example in report.examples.examples if report.examples else ():
        try:
            case = _Case(example, facts_of(example, next(numbers)))
            for name in example.expect:
                _target(case, name)
        except RuleError as error:
            report.problems.append(str(error))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            report.problems.append(f"{example.location}: the example is invalid: {type(error).__name__}: {error}")
        else:
            cases.append(case)
    return cases


def _target(case: _Case, name: str) -> str:
    """The resource_arn of a name in ``expect``. Raises RuleError for an unknown name."""
    facts = case.runs[-1]
    names = {key: value for run in case.runs for key, value in run.names.items()}
    if name in names:
        return names[name]
    text = str(facts.text(name))
    if text == name and not any(sign in name for sign in ":/"):
        raise RuleError(f"{case.example.location}: expect names {name!r}, which the example does not define")
    return text


def _evaluate(
    reports: Sequence[Report], build_mart: MartBuilder, mart: Path, cases: Mapping[str, Sequence[_Case]]
) -> None:
    """Write all cases into one ledger, build its mart, run the rules and record their results.

    Cases with the same facts share two accounts: most variants equal another one, of the same rule or of others.
    """
    shared: dict[str, list[Facts]] = {}
    for of_rule in cases.values():
        for case in of_rule:
            case.runs = shared.setdefault(_without_accounts(case.runs), case.runs)
    variants = list(shared.values())
    if not variants:
        return
    with tempfile.TemporaryDirectory(dir=mart.parent) as directory:
        url = f"sqlite:///{directory}/ledger.db"
        write(url, variants)
        parties = [{"name": "Vendor", "accounts": [VENDOR]}]
        settings = Settings.model_validate(
            {"database": url, "report": {"mart": mart}, "known_external_parties": parties}
        )
        build_mart(settings, [report.rule for report in reports])
        connection = connect(mart)
        try:
            for report in reports:
                _evaluate_rule(connection, report, cases[report.rule.rule_id])
        finally:
            connection.close()


def _without_accounts(runs: Sequence[Facts]) -> str:
    """The facts of a case as a text in which its accounts have the same names as in every other case."""
    facts = [
        (run.names, run.outcomes, {model.__tablename__: rows for model, rows in run.rows.items() if rows})
        for run in runs
    ]
    return repr(facts).replace(runs[-1].own, "{account}").replace(runs[-1].other, "{other}")


def _evaluate_rule(connection: duckdb.DuckDBPyConnection, report: Report, cases: Sequence[_Case]) -> None:
    by_parameters: dict[tuple[tuple[str, str], ...], list[_Case]] = {}
    for case in cases:
        by_parameters.setdefault(tuple(sorted(case.example.parameters.items())), []).append(case)
    for overrides, selected in sorted(by_parameters.items(), key=lambda item: item[0]):
        try:
            parameters = {**report.rule.defaults, **dict(overrides)}
            rows = list(population(connection, replace(report.rule, parameters=parameters)))
        except RuleError as error:
            report.problems.append(str(error))
            continue
        by_account: dict[str, list[_ResultRow]] = {}
        for arn, account_id, _, _, status, reason in rows:
            by_account.setdefault(account_id, []).append((arn, status, reason))
        for case in selected:
            _write(report, case, by_account)


def _write(report: Report, case: _Case, by_account: Mapping[str, Sequence[_ResultRow]]) -> None:
    facts = case.runs[-1]
    rows: dict[str, RuleResult] = {}
    for arn, status, reason in [*by_account.get(facts.own, ()), *by_account.get(facts.other, ())]:
        if not arn or not reason:
            report.problems.append(
                f"{case.example.location}: every row needs a resource_arn and a reason; "
                f"found {_with_placeholders(case, arn)}, {status!r}, {reason!r}"
            )
        elif arn in rows:
            report.problems.append(f"{case.example.location}: {_with_placeholders(case, arn)} is returned twice")
        rows[arn] = (status, str(reason))
    for name in case.example.expect:
        target = _target(case, name)
        result = rows.get(facts.own if name == "account" else target) or _row_of_grant(rows, target)
        case.results[name] = result or (NO_ROW, "")


def _row_of_grant(rows: Mapping[str, RuleResult], target: str) -> RuleResult | None:
    """The row of a grant: its resource_arn starts with the key's ARN and ends with the grant's ID.

    If the key's grants could not be listed, the row of the key stands for all of them.
    """
    key, separator, grant = target.partition("/grant/")
    if not separator:
        return None
    return next((row for arn, row in rows.items() if arn.startswith(key) and arn.endswith(grant)), rows.get(key))


def _compare(report: Report, case: _Case) -> None:
    for name, (status, reason) in case.results.items():
        expected, says = case.example.expect[name], case.runs[-1].text(case.example.says.get(name, ""))
        actual = _with_placeholders(
            case, f"{status} ({reason})" if reason else "no row" if status == NO_ROW else status
        )
        if status != expected:
            report.problems.append(f"{case.example.location}: expected {name} to be {expected}, found {actual}")
        elif says not in reason:
            report.problems.append(
                f"{case.example.location}: expected the reason of {name} to contain {says!r}, found {actual}"
            )


def _with_placeholders(case: _Case, text: str | None) -> str:
    """The text with account IDs replaced by the placeholders of the example file."""
    facts = case.runs[-1]
    return str(text).replace(facts.own, "{account}").replace(facts.other, "{other}")


def _variants(cases: Sequence[_Case], numbers: Iterator[int]) -> list[_Case]:
    """Every example, once per operation without its response."""
    return [
        _Case(
            case.example, [gaps.without_operation(run, action) for run in facts_of(case.example, next(numbers))], action
        )
        for case in cases
        for action in _actions(case)
    ]


def _mutate(
    reports: Sequence[Report],
    evaluate: Callable[[Mapping[str, Sequence[_Case]]], None],
    cases: Mapping[str, Sequence[_Case]],
    variants: Mapping[str, Sequence[_Case]],
    numbers: Iterator[int],
) -> None:
    """Report results that did not become unknown without a response, although the response makes a difference.

    The response makes a difference if the result changes with the response from another example.
    """
    checked: list[tuple[Report, _Case, _Case, list[_Case]]] = []
    mutations: dict[str, list[_Case]] = {report.rule.rule_id: [] for report in reports}
    for report in reports:
        of_rule = cases[report.rule.rule_id]
        bases = {case.example.name: case for case in of_rule}
        for case in variants[report.rule.rule_id]:
            base = bases[case.example.name]
            if _candidates(case, base):
                mutated = list(_mutations(case, of_rule, numbers))
                checked.append((report, case, base, mutated))
                mutations[report.rule.rule_id] += mutated
    evaluate(mutations)
    for report, case, base, mutated in checked:
        report.problems += _insensitive_results(case, base, mutated)


def _actions(case: _Case) -> list[str]:
    return list(dict.fromkeys(action for run in case.runs for action in gaps.operations(run)))


def _candidates(case: _Case, base: _Case) -> list[str]:
    """The names in ``expect`` whose result is not unknown although a response was removed."""
    is_listing = case.action not in OF_ITEM
    allowed = {"unknown", NO_ROW} if is_listing else {"unknown"}
    return [
        name
        for name, (status, _) in case.results.items()
        if status not in allowed and not (status == NO_ROW and base.results.get(name, ("", ""))[0] == NO_ROW)
    ]


def _mutations(case: _Case, others: Sequence[_Case], numbers: Iterator[int]) -> Iterator[_Case]:
    """Yield the example with the response of the same operation in every other example, each distinct response once."""
    action = str(case.action)
    if action not in OF_ITEM:
        listings = {}
        for other in others:
            if other.example is not case.example:
                listing, account = gaps.listing_of(other.runs[-1], action), other.runs[-1].own
                listings[_with_placeholders(other, repr(listing))] = listing, account
        for listing, account in listings.values():
            runs = facts_of(case.example, next(numbers))
            yield _Case(case.example, [gaps.swap(run, action, listing, account) for run in runs], action)
        return
    responses = {
        (_with_placeholders(other, repr(response)), _kind(subject)): (response, other)
        for other in others
        for subject, response in gaps.response_of(other.runs[-1], action)
    }
    original = next(other for other in others if other.example is case.example)
    for subject in gaps.subjects(original.runs[-1], action):
        for (_, kind), (response, other) in responses.items():
            if kind != _kind(subject):
                continue
            runs = facts_of(case.example, next(numbers))
            item = runs[-1].translation_from(original.runs[-1].own)({subject: subject})[subject]
            account = other.runs[-1].own
            mutated = [gaps.mutate(run, item, response, account) for run in runs]
            yield _Case(case.example, mutated, action, subject)


def _kind(arn: str) -> str:
    return ":".join([*arn.split(":")[2:3], arn.split(":", 5)[-1].split(":", maxsplit=1)[0].split("/", maxsplit=1)[0]])


def _insensitive_results(case: _Case, base: _Case, mutations: Sequence[_Case]) -> Iterator[str]:
    for name in _candidates(case, base):
        status, reason = case.results[name]
        before = base.results[name][0]
        where = f"{case.example.location}: without {case.action}"
        actual = _with_placeholders(case, f"{status} ({reason})" if reason else "no row")
        if status != before:
            yield f"{where}, expected {name} to be unknown, or {before} as before; found {actual}"
            continue
        for mutation in mutations:
            other, because = mutation.results[name]
            if other != before:
                about = f" of {_with_placeholders(base, mutation.subject)}" if mutation.subject else ""
                yield (
                    f"{where}, expected {name} to be unknown, found {actual}; but the response{about} decides: with that of "
                    f"another example the result is {_with_placeholders(mutation, f'{other} ({because})')}"
                )
                break
