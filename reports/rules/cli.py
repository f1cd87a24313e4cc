"""`kmsledger rules`: list, show and test rules, and write a new one."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.cli_options import CONFIG, SETTINGS
from models.severities import SEVERITIES

if TYPE_CHECKING:
    from models.settings import Settings
    from reports.rules.loader import Rule

FORMAT = "kmsledger.rules/1"
FAILED, USAGE = 1, 2


@click.group()
def rules() -> None:
    """List, show and test the rules, and write new ones; without a settings file these are the shipped ones."""


@rules.command(name="list")
@CONFIG
@click.option("--family", metavar="FAMILY", help="Only rules of this family.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Only of this one.")
@click.option(
    "--framework", metavar="TEXT", help="Only rules that answer a control whose framework or number has TEXT."
)
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def list_rules(*, file: Path, family: str | None, severity: str | None, framework: str | None, form: str) -> None:
    """List the rules in force."""
    from reports.mart.result_writers import writer_of
    from reports.rules.framework_loader import controls_by_rule
    from reports.rules.loader import load_rules

    controls = controls_by_rule()
    found = [
        rule
        for rule in load_rules(_settings(file))
        if family in {None, rule.family}
        and severity in {None, rule.severity}
        and _answers([*rule.frameworks, *controls.get(rule.rule_id, ())], framework)
    ]
    rows = [(rule.rule_id, rule.severity, rule.family, rule.title, rule.source) for rule in found]
    if form == "json":
        _json({"rules": [_plain(rule) for rule in found]})
    else:
        writer_of(form, 0)(sys.stdout, ["id", "severity", "family", "title", "source"], rows)


@rules.command()
@CONFIG
@click.argument("rule_id", metavar="RULE")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def show(*, file: Path, rule_id: str, form: str) -> None:
    """Tell everything about RULE, with its parameters as they are in force."""
    from reports.mart.result_writers import printable
    from reports.rules.loader import load_rules

    known = {rule.rule_id: rule for rule in load_rules(_settings(file))}
    if rule_id not in known:
        raise click.UsageError(f"no rule in force is named {rule_id}; `kmsledger rules list` lists them")
    plain = _plain(known[rule_id])
    if form == "json":
        _json({"rule": plain})
        return
    click.echo(printable(f"{rule_id}: {plain['title']}"))
    click.echo(f"severity {plain['severity']}, family {plain['family']}, in {plain['source']}")
    for name in ("why", "fix", "console", "cli", "terraform"):
        if plain[name]:
            click.echo(f"\n{name}:")
            for line in plain[name].strip().splitlines():
                for part in textwrap.wrap(line, 110, initial_indent="  ", subsequent_indent="  ") or [""]:
                    click.echo(printable(part))
    if plain["parameters"]:
        click.echo("\nparameters:")
    for parameter in plain["parameters"]:
        set_here = "" if parameter["value"] == parameter["default"] else f" (default {parameter['default']})"
        about = f": {parameter['about']}" if parameter["about"] else ""
        click.echo(printable(f"  {parameter['name']} = {parameter['value']}{set_here}{about}"))
    if plain["frameworks"]:
        click.echo("\nframeworks:")
    for control in plain["frameworks"]:
        click.echo(printable(f"  {control}"))


@rules.command()
@CONFIG
@click.option("--gaps", is_flag=True, help="Each example again without what each operation told; takes longer.")
@click.argument("what", nargs=-1, metavar="[RULE|FILE|DIR]...")
def test(*, file: Path, gaps: bool, what: tuple[str, ...]) -> None:
    """Run the examples of rules: of all in force, of single ones, of rule files or of directories.

    Settings make no difference to examples: they state their parameters themselves. Exit code 1: a rule is not in order.
    """
    from reports.pipeline import check_examples

    chosen, problems = _chosen(_settings(file), what)
    for report in check_examples(chosen, with_gaps=gaps):
        examples = len(report.examples.examples) if report.examples else 0
        with_gaps = f", {report.gaps} times with a gap" if gaps else ""
        outcome = f"{len(report.problems)} problem(s)" if report.problems else "in order"
        click.echo(f"{report.rule.rule_id}: {examples} example(s){with_gaps}: {outcome}")
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
    help="Where your rules are; name it in the settings as rules.directories.",
)
def new(*, rule_id: str, directory: Path) -> None:
    """Write a rule that works, with examples that pass, to start from."""
    from reports.rules.loader import RuleError, parse_rule, rule_files

    text = _RULE.format(rule_id=rule_id)
    parse_rule(rule_id, text)
    targets = {directory / f"{rule_id}.sql": text, directory / f"{rule_id}.examples.yaml": _EXAMPLES}
    if f"{rule_id}.sql" in {name for name, _, _ in rule_files()}:
        raise RuleError(f"{rule_id} is a shipped rule: choose another id")
    for path in targets:
        if path.exists():
            raise RuleError(f"{path} is there already: choose another id, or remove it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in targets.items():
            path.write_text(content, encoding="utf-8")
            click.echo(path)
    except OSError as error:
        raise RuleError(f"{directory} cannot be written: {error.strerror}; choose another directory") from error
    click.echo(f"run `kmsledger rules test {directory / (rule_id + '.sql')}`, change it, and run it again")


def _settings(file: Path) -> Settings:
    from models.settings import Settings, load

    return Settings() if file == SETTINGS and not file.exists() else load(file)


def _chosen(settings: Settings, what: Sequence[str]) -> tuple[list[Rule], list[str]]:
    """The rules that are named, and what is wrong with files that hold none."""
    from reports.rules.loader import RuleError, parse_rule, rule_files

    files = {Path(name).stem: (name, text, shipped) for name, text, shipped in rule_files(settings.rules.directories)}
    wanted: list[tuple[str, str, bool]] = [] if what else list(files.values())
    for one in what:
        path = Path(one)
        if one in files:
            wanted.append(files[one])
        elif path.is_dir():
            found = [(str(file), _text(file), False) for file in sorted(path.glob("*.sql"))]
            if not found:
                raise click.UsageError(f"{one} has no rule (*.sql)")
            wanted += found
        elif path.suffix == ".sql" and path.is_file():
            wanted.append((str(path), _text(path), False))
        else:
            raise click.UsageError(f"{one} is no rule, no rule file (*.sql) and no directory")
    rules_found: dict[str, Rule] = {}
    problems = []
    for name, text, shipped in wanted:
        try:
            rule = parse_rule(name, text, complete=shipped)
        except RuleError as error:
            problems.append(str(error))
            continue
        known = rules_found.setdefault(rule.rule_id, rule)
        if known.source != rule.source:
            problems.append(f"{name}: rule {rule.rule_id} is already in {known.source}: give it another id")
        if Path(name).stem != rule.rule_id:
            problems.append(f"{name}:1: the rule's id is {rule.rule_id}: name the file {rule.rule_id}.sql")
    return list(rules_found.values()), problems


def _text(path: Path) -> str:
    from reports.rules.loader import RuleError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: the rule cannot be read: {error}") from error


def _answers(controls: Iterable[str], wanted: str | None) -> bool:
    return wanted is None or any(wanted.lower() in control.lower() for control in controls)


def _plain(rule: Rule) -> dict[str, Any]:
    from reports.rules.framework_loader import controls_by_rule

    texts = {
        name: getattr(rule, name)
        for name in ("title", "severity", "family", "why", "fix", "console", "cli", "terraform")
    }
    parameters = [
        {"name": name, "value": value, "default": rule.defaults[name], "about": rule.about[name]}
        for name, value in rule.parameters.items()
    ]
    controls = [*rule.frameworks, *controls_by_rule().get(rule.rule_id, ())]
    return {"id": rule.rule_id, **texts, "parameters": parameters, "frameworks": controls, "source": rule.source}


def _json(content: dict[str, Any]) -> None:
    json.dump({"format": FORMAT, **content}, sys.stdout, indent=2)
    click.echo()


_RULE = """\
-- id: {rule_id}
-- title: Keys have a description
-- severity: low
-- family: ownership
-- why: >-
--   Who finds a key without a description cannot tell what it is for, and does not dare to remove it.
-- fix: Say in the key's description what it is for.
-- cli: aws kms update-key-description --key-id KEY_ARN --description TEXT
-- parameters:
--   characters: {{default: "1", about: how many characters a description has at least}}

-- Not applicable, unknown, fail, pass: in this order, and the last branch is 'unknown'. NULL means not known.
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN manager = 'AWS' THEN 'not_applicable'
    WHEN manager IS NULL OR description IS NULL THEN 'unknown'
    WHEN length(description) < CAST($characters AS INTEGER) THEN 'fail'
    WHEN length(description) >= CAST($characters AS INTEGER) THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN manager = 'AWS' THEN 'AWS manages this key.'
    WHEN manager IS NULL OR description IS NULL THEN 'The key could not be described.'
    ELSE 'Its description has ' || length(description) || ' character(s); ' || $characters || ' are asked for.'
  END AS reason
FROM keys
"""
_EXAMPLES = """\
- name: the key is described
  expect: {k1: pass}
  says: 6 character(s)
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
- name: the key may not be described
  expect: {k1: unknown}
  keys:
    - {id: k1, description: orders}
  gaps:
    - {action: "kms:DescribeKey", subject: k1}
"""
