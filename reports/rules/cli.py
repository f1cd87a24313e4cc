"""`kmsledger rules`: list, show, run, test and create rules."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import (
    AS_OF,
    CONFIG,
    LIMIT,
    MART,
    MEMORY_LIMIT,
    format_option,
    query_limits,
    timeout_option,
)
from models.severities import SEVERITIES, STATUSES

if TYPE_CHECKING:
    from models.settings import Settings
    from reports.mart.connection import Limits
    from reports.rules.loader import Rule

FORMAT = "kmsledger.rules/1"
FAILED, USAGE = 1, 2


@click.group()
def rules() -> None:
    """List, show, run, test and create rules; without a settings file, the shipped rules."""


@rules.command(name="list")
@CONFIG
@click.option("--family", metavar="FAMILY", help="Only rules of this family.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only rules of this severity and higher ones.")
@click.option("--framework", metavar="TEXT", help="Only rules mapped to a control with this text in its name.")
@format_option("table", "json", "csv")
def list_rules(
    *, config_path: Path, family: str | None, severity: str | None, framework: str | None, output_format: str
) -> None:
    """List the rules in force."""
    from reports.mart.result_writers import writer_of

    selected = SEVERITIES[: SEVERITIES.index(severity) + 1] if severity else SEVERITIES
    rules_in_force = [
        rule
        for rule in _mapped(_settings(config_path), framework)
        if family in {None, rule.family} and rule.severity in selected
    ]
    rows = [(rule.rule_id, rule.severity, rule.family, rule.title, rule.source) for rule in rules_in_force]
    if output_format == "json":
        _json({"rules": [_to_dict(rule) for rule in rules_in_force]})
    else:
        writer_of(output_format, 0)(sys.stdout, ["id", "severity", "family", "title", "source"], rows)


@rules.command()
@CONFIG
@click.argument("rule_id", metavar="RULE")
@format_option("table", "json")
def show(*, config_path: Path, rule_id: str, output_format: str) -> None:
    """Show every field of RULE, with the current values of its parameters."""
    from models.safe_text import printable

    fields = _to_dict(_in_force(_settings(config_path), rule_id))
    if output_format == "json":
        _json({"rule": fields})
        return
    click.echo(printable(f"{rule_id}: {fields['title']}"))
    click.echo(f"severity {fields['severity']}, family {fields['family']}, in {fields['source']}")
    for name in ("why", "fix", "console", "cli", "terraform"):
        if fields[name]:
            click.echo(f"\n{name}:")
            for line in fields[name].strip().splitlines():
                for wrapped in textwrap.wrap(line, 110, initial_indent="  ", subsequent_indent="  ") or [""]:
                    click.echo(printable(wrapped))
    if fields["parameters"]:
        click.echo("\nparameters:")
    for parameter in fields["parameters"]:
        default = "" if parameter["value"] == parameter["default"] else f" (default {parameter['default']})"
        about = f": {parameter['about']}" if parameter["about"] else ""
        click.echo(printable(f"  {parameter['name']} = {parameter['value']}{default}{about}"))
    if fields["frameworks"]:
        click.echo("\nframeworks:")
    for control in fields["frameworks"]:
        click.echo(printable(f"  {control}"))


@rules.command()
@CONFIG
@MART
@AS_OF
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    help="Only this status; can be repeated. [default: all]",
)
@click.option("--account", "accounts", multiple=True, metavar="ACCOUNT", help="Only this account: its ID or name.")
@format_option("table", "json", "csv", about="json and csv have every row.")
@LIMIT
@click.option(
    "--framework", metavar="TEXT", help="All rules mapped to a control with this text in its name, with their IDs."
)
@query_limits
@click.argument("rule_id", metavar="RULE", required=False)
def run(
    *,
    config_path: Path,
    mart_path: Path | None,
    as_of: str | None,
    statuses: tuple[str, ...],
    accounts: tuple[str, ...],
    output_format: str,
    limit: int,
    framework: str | None,
    timeout: float,
    memory_limit: int,
    temp_directory: Path | None,
    rule_id: str | None,
) -> None:
    """Show the result of RULE for every resource that it checks, passes included.

    With --framework instead of RULE, show the results of all rules of a control. A rule runs now, with its current text and
    parameters, on the facts of the last run, or of the run that --as-of names. Waivers are not applied: a waived finding is a
    failure here.

    Exit code 4: the time or memory limit was exceeded.
    """
    from reports.mart.cli import run_within

    if (rule_id is None) == (framework is None):
        raise click.UsageError("name a rule, or select rules with --framework")

    def prepare(limits: Limits) -> Callable[[], None]:
        from reports.mart.mart_reader import open_stating_run
        from reports.mart.result_writers import writer_of
        from reports.rules.findings import FindingFilter, check_names
        from reports.rules.runner import COLUMNS, population

        settings = _settings(config_path)
        chosen = _mapped(settings, framework) if rule_id is None else [_in_force(settings, rule_id)]
        if not chosen:
            raise click.UsageError(f"no active rule is mapped to a control with {framework!r} in its name")
        connection = open_stating_run(mart_path or settings.report.mart, as_of, limits)
        check_names(connection, FindingFilter(accounts=accounts))

        def write() -> None:
            with connection:
                rows = (
                    (rule.rule_id, *row)
                    for rule in chosen
                    for row in population(connection, rule, statuses or STATUSES, accounts)
                )
                if rule_id is None:
                    writer_of(output_format, limit)(sys.stdout, ("rule_id", *COLUMNS), rows)
                else:
                    writer_of(output_format, limit)(sys.stdout, COLUMNS, (row[1:] for row in rows))

        return write

    subject = "the evaluation" if rule_id is None else f"rule {rule_id}"
    run_within(prepare, subject, timeout, memory_limit, temp_directory)


@rules.command()
@CONFIG
@click.option("--gaps", is_flag=True, help="Run each example again without each operation's response; slower.")
@timeout_option(3600, "Time that all examples together may take.")
@MEMORY_LIMIT
@click.argument("targets", nargs=-1, metavar="[RULE|FILE|DIR]...")
def test(*, config_path: Path, gaps: bool, timeout: float, memory_limit: int, targets: tuple[str, ...]) -> None:
    """Run the examples of rules: of all rules, or of those named by ID, file or directory.

    Examples state their own parameters, so settings do not affect them.

    Exit codes: 1 a rule or an example has a problem, 4 the time or memory limit was exceeded.
    """
    from reports.mart.cli import run_within

    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(
        prefix="kmsledger-"
    ) as folder:  # here, because this process outlives the one that tests
        tempfile.tempdir = folder
        try:
            run_within(lambda _: partial(_test, config_path, targets, gaps=gaps), "the test", timeout, memory_limit)
        finally:
            tempfile.tempdir = before


def _test(config_path: Path, targets: Sequence[str], *, gaps: bool) -> None:
    from reports.pipeline import check_examples

    settings = _settings(config_path)
    chosen, problems = _select_rules(settings, targets)
    for report in check_examples(chosen, with_gaps=gaps, schema_of=settings.report.mart):
        examples = len(report.examples.examples) if report.examples else 0
        with_gaps = f", {report.gaps} times with a gap" if gaps else ""
        result = f"{len(report.problems)} problem{'s' * (len(report.problems) != 1)}" if report.problems else "OK"
        click.echo(f"{report.rule.rule_id}: {examples} example{'s' * (examples != 1)}{with_gaps}: {result}")
        problems += report.problems
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(FAILED)


@rules.command()
@click.argument("rule_id", metavar="ID")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Directory of your rules, listed in rules.directories of the settings.",
)
def new(*, rule_id: str, directory: Path) -> None:
    """Create a working rule with passing examples, as a starting point."""
    from reports.rules.loader import RuleError, parse_rule, rule_files

    text = _RULE.format(rule_id=rule_id)
    parse_rule(rule_id, text, complete=True)
    targets = {directory / f"{rule_id}.sql": text, directory / f"{rule_id}.examples.yaml": _EXAMPLES}
    if f"{rule_id}.sql" in {name for name, _, _ in rule_files()}:
        raise RuleError(f"{rule_id} is the ID of a shipped rule: choose another ID")
    for path in targets:
        if path.exists():
            raise RuleError(f"{path} already exists: choose another ID, or remove the file")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in targets.items():
            path.write_text(content, encoding="utf-8")
            click.echo(path)
    except OSError as error:
        raise RuleError(f"{directory} cannot be written: {error.strerror}; choose another directory") from error
    click.echo(f"edit both files, then run `kmsledger rules test {directory / (rule_id + '.sql')}`")


def _settings(config_path: Path) -> Settings:
    from models.settings import load

    return load(config_path)


def _in_force(settings: Settings, rule_id: str) -> Rule:
    from reports.rules.loader import load_rules

    rule = next((rule for rule in load_rules(settings) if rule.rule_id == rule_id), None)
    if rule is None:
        raise click.UsageError(f"no active rule is named {rule_id}: choose one that `kmsledger rules list` lists")
    return rule


def _select_rules(settings: Settings, targets: Sequence[str]) -> tuple[list[Rule], list[str]]:
    """The rules that the targets name, and the problems of files that hold no valid rule."""
    from reports.rules.loader import RuleError, parse_rule, read_text, rule_files

    files = {Path(name).stem: (name, text, shipped) for name, text, shipped in rule_files(settings.rules.directories)}
    selected: list[tuple[str, str, bool]] = [] if targets else list(files.values())
    for target in targets:
        path = Path(target)
        if target in files:
            selected.append(files[target])
        elif path.is_dir():
            in_directory = [(str(file), read_text(file), False) for file in sorted(path.glob("*.sql"))]
            if not in_directory:
                raise click.UsageError(f"{target} has no rule file (*.sql)")
            selected += in_directory
        elif path.suffix == ".sql" and path.is_file():
            selected.append((str(path), read_text(path), False))
        else:
            raise click.UsageError(f"{target} is not a rule, a rule file (*.sql) or a directory")
    chosen: dict[str, Rule] = {}
    problems = []
    for name, text, shipped in selected:
        try:
            rule = parse_rule(name, text, complete=shipped)
        except RuleError as error:
            problems.append(str(error))
            continue
        first = chosen.setdefault(rule.rule_id, rule)
        if first.source != rule.source:
            problems.append(f"{name}: rule {rule.rule_id} is already defined in {first.source}: give it another ID")
        if Path(name).stem != rule.rule_id:
            problems.append(f"{name}:1: the rule's ID is {rule.rule_id}: name the file {rule.rule_id}.sql")
    return list(chosen.values()), problems


def _mapped(settings: Settings, framework: str | None) -> list[Rule]:
    """The rules in force that are mapped to a control with this text in its name; None selects all."""
    from reports.rules.loader import load_rules

    part = (framework or "").lower()
    return [
        rule
        for rule in load_rules(settings)
        if framework is None or any(part in control.lower() for control in rule.controls)
    ]


def _to_dict(rule: Rule) -> dict[str, Any]:
    parameters = [
        {"name": name, "value": value, "default": rule.defaults[name], "about": rule.about[name]}
        for name, value in rule.parameters.items()
    ]
    more = {"parameters": parameters, "frameworks": rule.controls, "source": rule.source}
    return {"id": rule.rule_id, **rule.texts(), **more}


def _json(content: dict[str, Any]) -> None:
    json.dump({"format": FORMAT, **content}, sys.stdout, indent=2)
    click.echo()


_RULE = """\
-- id: {rule_id}
-- title: Keys have a description
-- severity: low
-- family: ownership
-- why: >-
--   The purpose of a key without a description is unclear, so nobody dares to remove it.
-- fix: State the key's purpose in its description.
-- console: In KMS, under Customer managed keys, select the key, choose Edit, and enter a description.
-- cli: aws kms update-key-description --key-id KEY_ARN --description TEXT
-- terraform: Set description on aws_kms_key.
-- parameters:
--   characters: {{default: "1", about: minimum length of a description in characters}}

-- Conditions in this order: not_applicable, unknown, fail, pass. NULL means unknown, and so does a row without a true condition.
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager = 'AWS' THEN not_applicable('AWS manages this key.')
    WHEN manager IS NULL OR description IS NULL THEN unknown('The key could not be described.')
    ELSE verdict_of(length(description) >= CAST($characters AS INTEGER),
      'Its description has ' || internal.counted(length(description), 'character', 'characters') || '; '
        || $characters || ' are required.')
  END AS verdict
FROM keys
"""
_EXAMPLES = """\
- name: the key is described
  expect: {k1: pass}
  says: 6 characters
  keys:
    - {id: k1, description: orders}
- name: the key has no description
  expect: {k1: fail}
  keys:
    - {id: k1, description: ""}
- name: the description is too short
  expect: {k1: fail}
  parameters: {characters: 10}
  keys:
    - {id: k1, description: orders}
- name: AWS manages the key
  expect: {k1: not_applicable}
  keys:
    - {id: k1, manager: AWS}
- name: kms:DescribeKey is denied
  expect: {k1: unknown}
  keys:
    - {id: k1, description: orders}
  gaps:
    - {action: "kms:DescribeKey", subject: k1}
"""
