"""The examples of rules, run: one ledger with all of them, one mart over it, and what each rule says compared with each.

With gaps, each example is run again without what one operation told, once for each operation that told it something:
the rule must then say unknown, unless it is shown that what the operation tells makes no difference (`docs/rules.md`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from models.settings import Settings
from reports.mart.connection import connect
from reports.rules.lint import check_query
from reports.rules.loader import Rule, RuleError
from reports.rules.testing import gap_mutations as gaps
from reports.rules.testing.fixture import VENDOR, Facts
from reports.rules.testing.ledger_writer import write
from reports.rules.testing.loader import NO_ROW, STATUSES, Example, Examples, read_examples
from reports.rules.testing.runs import facts_of
from reports.rules.waivers import WAIVER_RULES

COLUMNS = ("resource_arn", "account_id", "region", "key_arn", "status", "reason")
MartBuilder = Callable[[Settings, Sequence[Rule]], None]
"""Analyzes access in the ledger that the settings name, and builds its mart with the tables of these rules."""
Verdict = tuple[str, str]
"""Status and reason; ``none`` where the rule returned no row."""


@dataclass(slots=True)
class Report:
    """What came of one rule."""

    rule: Rule
    examples: Examples | None = None
    problems: list[str] = field(default_factory=list)
    """Each with file, line, example, what was expected and what was found."""
    gaps: int = 0
    """Variants with a gap that were judged."""


@dataclass(slots=True)
class _Case:
    """An example's variant in the ledger, and what the rule said of it."""

    example: Example
    nights: list[Facts]
    action: str | None = None
    subject: str | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)


def examples_file(rule: Rule) -> tuple[str, str] | None:
    """Name and text of the file beside the rule; ``None`` when there is none. Raises RuleError when it cannot be read."""
    name = rule.source.removesuffix(".sql") + ".examples.yaml"
    file = Path(name) if Path(name).name != name else resources.files("reports.rules").joinpath("shipped", name)
    if not file.is_file():
        return None
    try:
        return name, file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{name}: the examples cannot be read: {error}") from error


def run_examples(rules: Iterable[Rule], build_mart: MartBuilder, *, with_gaps: bool = False) -> list[Report]:
    """Run the examples of rules, with the parameters' defaults, independent of the user's settings."""
    reports = [_read(rule) for rule in rules]
    cases: dict[str, list[_Case]] = {}
    numbers = iter(range(1_000_000_000))
    for report in reports:
        cases[report.rule.rule_id] = _cases(report, numbers)
    variants = {
        report.rule.rule_id: _variants(cases[report.rule.rule_id], numbers) if with_gaps else [] for report in reports
    }
    _judge(reports, build_mart, {rule_id: [*cases[rule_id], *variants[rule_id]] for rule_id in cases})
    for report in reports:
        report.gaps = len(variants[report.rule.rule_id])
        for case in cases[report.rule.rule_id]:
            _compare(report, case)
    if with_gaps:
        _cross(reports, build_mart, cases, variants, numbers)
    return reports


def _read(rule: Rule) -> Report:
    report = Report(rule, problems=list(check_query(rule)))
    try:
        found = examples_file(rule)
        if found is None and rule.rule_id in WAIVER_RULES:
            pass  # they are about settings, of which examples have none
        elif found is None:
            report.problems.append(f"{rule.source}: there are no examples beside it ({rule.rule_id}.examples.yaml)")
        else:
            report.examples = read_examples(*found, rule.rule_id, rule.parameters)
    except RuleError as error:
        report.problems.append(str(error))
    if report.examples is not None:
        report.problems += _missing(report.examples, rule.source.removesuffix(".sql") + ".examples.yaml")
    return report


def _missing(examples: Examples, source: str) -> Iterator[str]:
    shown = {status for example in examples.examples for status in example.expect.values()}
    for status in STATUSES:
        if status not in shown and status not in examples.cannot:
            yield (
                f"{source}:1: no example expects {status}: add one, or say why there is none "
                f"(- cannot: {{{status}: REASON}} as first item)"
            )
        if status in shown and status in examples.cannot:
            yield f"{source}:1: 'cannot' says that there is no {status}, but an example expects it"


def _cases(report: Report, numbers: Iterator[int]) -> list[_Case]:
    found: list[_Case] = []
    for example in report.examples.examples if report.examples else ():
        try:
            case = _Case(example, facts_of(example, next(numbers)))
            for name in example.expect:
                _target(case, name)
        except RuleError as error:
            report.problems.append(str(error))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            report.problems.append(f"{example.place}: it cannot be understood: {type(error).__name__}: {error}")
        else:
            found.append(case)
    return found


def _target(case: _Case, name: str) -> str:
    """The resource_arn that a name of ``expect`` stands for. Raises RuleError for an unknown name."""
    facts = case.nights[-1]
    names = {key: value for night in case.nights for key, value in night.names.items()}
    if name in names:
        return names[name]
    text = str(facts.text(name))
    if text == name and not any(sign in name for sign in ":/"):
        raise RuleError(f"{case.example.place}: expect names {name!r}, which is nothing of the example")
    return text


def _judge(reports: Sequence[Report], build_mart: MartBuilder, cases: Mapping[str, Sequence[_Case]]) -> None:
    """Write all cases into one ledger, build its mart, run the rules there and put down what they say."""
    nights = [case.nights for of_rule in cases.values() for case in of_rule]
    if not nights:
        return
    with tempfile.TemporaryDirectory(prefix="kmsledger-") as directory:
        url, mart = f"sqlite:///{directory}/ledger.db", Path(directory) / "examples.duckdb"
        write(url, nights)
        parties = [{"name": "Vendor", "accounts": [VENDOR]}]
        settings = Settings.model_validate(
            {"database": url, "report": {"mart": mart}, "known_external_parties": parties}
        )
        build_mart(settings, [report.rule for report in reports])
        connection = connect(mart)
        try:
            for report in reports:
                _judge_rule(connection, report, cases[report.rule.rule_id])
        finally:
            connection.close()


def _judge_rule(connection: duckdb.DuckDBPyConnection, report: Report, cases: Sequence[_Case]) -> None:
    sets = {tuple(sorted(case.example.parameters.items())) for case in cases}
    for chosen in sorted(sets):
        wanted = [case for case in cases if tuple(sorted(case.example.parameters.items())) == chosen]
        try:
            answers = _answers(connection, report.rule, {**report.rule.defaults, **dict(chosen)})
        except RuleError as error:
            report.problems.append(str(error))
            continue
        by_account: dict[str, list[Mapping[str, Any]]] = {}
        for row in answers:
            by_account.setdefault(str(row["account_id"]), []).append(row)
        for case in wanted:
            _put_down(report, case, by_account)


def _answers(
    connection: duckdb.DuckDBPyConnection, rule: Rule, parameters: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    try:
        cursor = connection.execute(rule.query, dict(parameters)) if parameters else connection.execute(rule.query)
        names = [column[0] for column in cursor.description or ()]
        if sorted(names) != sorted(COLUMNS):
            raise RuleError(f"{rule.source}: expected the columns {', '.join(COLUMNS)}, found {', '.join(names)}")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error as error:
        cause = " ".join(str(error).split("LINE ")[0].split())
        raise RuleError(f"{rule.source}: rule {rule.rule_id} failed: {cause}") from error


def _put_down(report: Report, case: _Case, by_account: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    facts = case.nights[-1]
    rows: dict[str, Mapping[str, Any]] = {}
    for row in [*by_account.get(facts.own, ()), *by_account.get(facts.other, ())]:
        arn = row["resource_arn"]
        if row["status"] not in STATUSES or not arn or not row["reason"]:
            report.problems.append(
                f"{case.example.place}: every row needs a resource_arn, a status ({', '.join(STATUSES)}) and a reason; "
                f"found {_plain(case, arn)}, {row['status']!r}, {row['reason']!r}"
            )
        elif arn in rows:
            report.problems.append(f"{case.example.place}: {_plain(case, arn)} is returned twice")
        rows[arn] = row
    for name in case.example.expect:
        target = _target(case, name)
        found = rows.get(facts.own if name == "account" else target) or _of_grant(rows, target)
        case.verdicts[name] = (found["status"], str(found["reason"])) if found else (NO_ROW, "")


def _of_grant(rows: Mapping[str, Mapping[str, Any]], target: str) -> Mapping[str, Any] | None:
    """Rows of grants name the key and end with the grant's id; how they join the two is the rule's.

    Where the grants of a key could not be listed, the row of the key stands for all that it may have.
    """
    key, separator, grant = target.partition("/grant/")
    if not separator:
        return None
    return next((row for arn, row in rows.items() if arn.startswith(key) and arn.endswith(grant)), rows.get(key))


def _compare(report: Report, case: _Case) -> None:
    for name, (status, reason) in case.verdicts.items():
        expected, says = case.example.expect[name], case.nights[-1].text(case.example.says.get(name, ""))
        found = _plain(case, f"{status} ({reason})" if reason else "no row" if status == NO_ROW else status)
        if status != expected:
            report.problems.append(f"{case.example.place}: expected {name} to be {expected}, found {found}")
        elif says not in reason:
            report.problems.append(
                f"{case.example.place}: expected the reason of {name} to say {says!r}, found {found}"
            )


def _plain(case: _Case, text: str | None) -> str:
    """A text with the accounts of the example as they are written there."""
    facts = case.nights[-1]
    return str(text).replace(facts.own, "{account}").replace(facts.other, "{other}")


def _variants(cases: Sequence[_Case], numbers: Iterator[int]) -> list[_Case]:
    """Every example without what one operation told."""
    return [
        _Case(case.example, [gaps.without(night, action) for night in facts_of(case.example, next(numbers))], action)
        for case in cases
        for action in _actions(case)
    ]


def _cross(
    reports: Sequence[Report],
    build_mart: MartBuilder,
    cases: Mapping[str, Sequence[_Case]],
    variants: Mapping[str, Sequence[_Case]],
    numbers: Iterator[int],
) -> None:
    """Where a rule went on without an answer as before, look whether the answers of other examples change its mind."""
    before = {(case.example.rule_id, case.example.name): case for of_rule in cases.values() for case in of_rule}
    doubted = {
        rule_id: [case for case in of_rule if _suspects(case, before[rule_id, case.example.name])]
        for rule_id, of_rule in variants.items()
    }
    crossings = {
        rule_id: [one for case in of_rule for one in _crossings(case, cases[rule_id], numbers)]
        for rule_id, of_rule in doubted.items()
    }
    _judge(reports, build_mart, crossings)
    for report in reports:
        rule_id = report.rule.rule_id
        for case in doubted[rule_id]:
            base = before[rule_id, case.example.name]
            made = [one for one in crossings[rule_id] if one.example is case.example and one.action == case.action]
            report.problems += _lies(case, base, made)


def _actions(case: _Case) -> list[str]:
    return list(dict.fromkeys(action for night in case.nights for action in gaps.operations(night)))


def _suspects(case: _Case, base: _Case) -> list[str]:
    """The expected things of which the rule does not say unknown, although something was taken away."""
    listing = case.action not in gaps.ABOUT_ONE
    allowed = {"unknown", NO_ROW} if listing else {"unknown"}
    return [
        name
        for name, (status, _) in case.verdicts.items()
        if status not in allowed and not (status == NO_ROW and base.verdicts.get(name, ("", ""))[0] == NO_ROW)
    ]


def _crossings(case: _Case, others: Sequence[_Case], numbers: Iterator[int]) -> Iterator[_Case]:
    """The example with what every other example was told by the same operation, each different answer once."""
    action = str(case.action)
    if action not in gaps.ABOUT_ONE:
        for other in others:
            if other.example is not case.example:
                nights = facts_of(case.example, next(numbers))
                yield _Case(case.example, [gaps.swapped(night, action, other.nights[-1]) for night in nights], action)
        return
    known = {
        (_plain(other, repr(told)), _kind(subject)): (told, other)
        for other in others
        for subject, told in gaps.told(other.nights[-1], action)
    }
    original = next(one for one in others if one.example is case.example)
    for subject in gaps.subjects(original.nights[-1], action):
        for (_, kind), (told, other) in known.items():
            if kind != _kind(subject):
                continue
            nights = facts_of(case.example, next(numbers))
            here = str(nights[-1].cross(original.nights[-1].own)(subject))
            account = other.nights[-1].own
            crossed = [gaps.crossed(night, here, told, account) for night in nights]
            yield _Case(case.example, crossed, action, subject)


def _kind(arn: str) -> str:
    return ":".join([*arn.split(":")[2:3], arn.split(":", 5)[-1].split(":", maxsplit=1)[0].split("/", maxsplit=1)[0]])


def _lies(case: _Case, base: _Case, crossings: Sequence[_Case]) -> Iterator[str]:
    for name in _suspects(case, base):
        status, reason = case.verdicts[name]
        was = base.verdicts[name][0]
        where = f"{case.example.place}: without {case.action}"
        said = _plain(case, f"{status} ({reason})" if reason else "no row")
        if status != was:
            yield f"{where}, expected {name} to be unknown, or {was} as before; found {said}"
            continue
        for one in crossings:
            other, because = one.verdicts[name]
            if other != was:
                about = f" of {_plain(base, one.subject)}" if one.subject else ""
                yield (
                    f"{where}, expected {name} to be unknown, found {said}; but what the operation tells{about} decides: "
                    f"with that of another example it is {_plain(one, f'{other} ({because})')}"
                )
                break
