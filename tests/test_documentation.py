"""What the documents name exists: commands, options and their values, settings, views, columns, files and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import click
import duckdb
import pytest
import yaml

from models.settings import Settings
from reports.mart.schema import declared
from reports.vendors.profile import Profile
from tests.reports.mart_schema import offer_schema

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy/README.md", *ROOT.glob("docs/*.md"))
    if path.name != "commands.md"  # generated from the commands themselves
}
(SCRIPT,) = metadata.entry_points(group="console_scripts", name="kmsledger")
cli: click.Group = SCRIPT.load().__globals__["cli"]
OTHER_OPTIONS = {
    "deploy/README.md": {"--env-file"},
    "docs/benchmarks.md": {"--flaw-interval", "--shared"},
    "docs/peers.md": {"--keep", "--again"},
}
"""Options of other programs: Podman and the benchmarks."""
PLACEHOLDER = re.compile(r"[A-Z_]+(?:[|/=][A-Z_]+)*")
OTHER_QUERIES = {"docs/postgresql.md", "docs/operations.md", "docs/cookbook.md"}
"""Documents whose SQL is for PostgreSQL, or is generated from files that have tests of their own."""


class Mention(NamedTuple):
    """A text in a document."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def split(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return the fenced blocks with their languages, and the text without them."""
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    return fence.findall(text), fence.sub("", text)


def inline(text: str) -> list[str]:
    """The inline code of a text, each on one line and with the pipes of table cells unescaped."""
    _, prose = split(text)
    prose = re.sub(r"^    .*$", "", prose, flags=re.MULTILINE)
    return [" ".join(code.replace("\\|", "|").split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def command_lines() -> Iterator[Mention]:
    """Each `kmsledger ...` in a block of commands or in inline code."""
    for document, text in DOCUMENTS.items():
        blocks, prose = split(text)
        commands = [block for language, block in blocks if not language]
        commands += ["\n".join(re.findall(r"^    (.*)$", prose, re.MULTILINE))]
        for line in re.split(r"\n| && ", "\n".join(commands).replace("\\\n", " ")):
            if found := re.match(r"(?:.*/bin/| *)kmsledger (.+)", line):
                yield Mention(document, found[1])
        yield from (
            Mention(document, code.removeprefix("kmsledger ")) for code in inline(text) if code.startswith("kmsledger ")
        )


def violation(line: str) -> str | None:
    """Return what is wrong with the arguments of `kmsledger`, as far as one knows without running the command."""
    words = shlex.split(line, comments=True)
    words = words[: next((i for i, word in enumerate(words) if word in {">", "|", ";"}), None)]
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        if names == ["COMMAND"]:
            return None
        unknown = [name for name in names if command.get_command(context, name) is None]
        if unknown:
            return f"no command {unknown[0]}"
        command = command.get_command(context, names[0]) or command
        context = click.Context(command, parent=context)
    words = [word.strip("[].") if "[" in word or "]" in word else word for word in words]
    options = {
        name: option for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)
    }
    last = options.get(words[-1]) if words else None
    if isinstance(last, click.Option) and not last.is_flag:
        words.append("VALUE")  # "see option `kmsledger mart --output`"
    try:
        values, rest, _ = command.make_parser(context).parse_args(words)
        for parameter in command.get_params(context):
            value = values.get(parameter.name or "")
            texts = [text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str)]
            for choice in (choice for text in texts for choice in text.split("|")):
                if isinstance(parameter.type, click.Choice) and choice and not is_placeholder(choice):
                    parameter.type.convert(choice, parameter, context)
    except click.UsageError as error:
        return error.format_message()
    return f"unexpected argument {rest[0]}" if rest and not isinstance(command, click.Group) else None


def is_placeholder(text: str) -> bool:
    """Whether a text stands for a value, such as FRAMEWORK or RUN|DATE."""
    return PLACEHOLDER.fullmatch(text) is not None


def test_every_command_line_has_known_commands_options_and_values() -> None:
    """Each `kmsledger ...` in a document parses; a command, option, argument or choice that does not exist fails."""
    lines = list(command_lines())
    wrong = [f"{line}: {problem}" for line in lines if (problem := violation(line.text))]
    assert wrong == []
    assert len(lines) > 150


@pytest.mark.parametrize(
    "line",
    [
        "crawll",
        "crawl --no-such-option",
        "sql --format yaml 'SELECT 1'",
        "rules list|no-such-command",
        "who-can decrypt KEY another",
        "findings --severity severe",
        "crawl --resume=1",
        "--no-such-option",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    """The check finds removed commands, options, choices and arguments."""
    assert violation(line)


def all_options(command: click.Command, context: click.Context) -> Iterator[click.Parameter]:
    """The options and arguments of a command and of all commands below it."""
    yield from command.get_params(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from all_options(child, click.Context(child, parent=context))


def test_every_option_exists() -> None:
    """An option in inline code, such as `--min-coverage 95%`, is one of at least one command, with a value that it accepts."""
    choices: dict[str, list[click.Parameter]] = {}
    for option in all_options(cli, click.Context(cli)):
        for name in (*option.opts, *option.secondary_opts):
            choices.setdefault(name, []).append(option)
    wrong = []
    for document, text in DOCUMENTS.items():
        for code in inline(text):
            name, *value = code.split(maxsplit=1)
            if not re.fullmatch(r"--[a-z][a-z-]*", name) or name in OTHER_OPTIONS.get(document, ()):
                continue
            if not any(accepts(option, value) for option in choices.get(name, [])):
                wrong.append(f"{document}: {code}")
    assert wrong == []


def accepts(option: click.Parameter, value: list[str]) -> bool:
    """Whether an option takes the value as far as its choices tell; without a value, it only has to exist."""
    return (
        not value
        or is_placeholder(value[0])
        or not isinstance(option.type, click.Choice)
        or value[0] in option.type.choices
    )


@cache
def json_schema(model: type[Settings | Profile]) -> dict[str, Any]:
    """The JSON schema of settings or vendor profiles."""
    return model.model_json_schema()


def resolves(model: type[Settings | Profile], path: list[str], schema: dict[str, Any] | None = None) -> bool:
    """Whether a path of keys exists in a model; lists are passed through, and the keys of a mapping are free."""
    schema = json_schema(model) if schema is None else schema
    if "$ref" in schema:
        return resolves(model, path, json_schema(model)["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return any(resolves(model, path, option) for option in schema["anyOf"])
    if not path:
        return True
    if "items" in schema:
        return resolves(model, path, schema["items"])
    if path[0] in schema.get("properties", {}):
        return resolves(model, path[1:], schema["properties"][path[0]])
    free = schema.get("additionalProperties")
    return isinstance(free, dict) and resolves(model, path[1:], free)


def columns() -> dict[str, set[str]]:
    """The columns of each view and history."""
    return {relation.name: {column.name for column in relation.columns} for relation in declared()}


def paths() -> Iterator[tuple[Mention, list[str]]]:
    """Dotted names in inline code, such as `mail.smtp` or `keys.alias`; not files."""
    suffixes = {path.suffix[1:] for path in ROOT.glob("*/**/*.*") if "." not in path.parent.name}
    for document, text in DOCUMENTS.items():
        for code in inline(text):
            name = code.partition(":")[0]
            if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", name) and name.rpartition(".")[2] not in {*suffixes, "lock"}:
                yield Mention(document, name), name.split(".")


def test_every_setting_and_column_exists() -> None:
    """`group.setting`, and `view.column`, exist if they begin with a group of the settings or profiles, or with a view."""
    views = columns()
    models: tuple[type[Settings | Profile], ...] = (Settings, Profile)
    heads = {*views, *(name for model in models for name in json_schema(model)["properties"])}
    checked, wrong = 0, []
    for mention, path in paths():
        if path[0] in heads:
            checked += 1
            is_column = len(path) == 2 and path[1] in views.get(path[0], ())
            if not is_column and not any(resolves(model, path) for model in models):
                wrong.append(str(mention))
    assert wrong == []
    assert checked > 30


def key_paths(data: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys of a YAML document."""
    if isinstance(data, list):
        for item in data:
            yield from key_paths(item, prefix)
    elif isinstance(data, dict):
        for key, value in data.items():
            yield (*prefix, str(key))
            yield from key_paths(value, (*prefix, str(key)))


def test_every_setting_in_an_example_exists() -> None:
    """YAML examples of settings have only keys that exist."""
    checked, wrong = 0, []
    for document, text in DOCUMENTS.items():
        heredocs = re.findall(r"<<'END'\n(.*?)^ *END$", text, re.MULTILINE | re.DOTALL)
        for example in [*(block for language, block in split(text)[0] if language == "yaml"), *heredocs]:
            data = yaml.safe_load(example)
            if isinstance(data, dict) and data.keys() <= json_schema(Settings)["properties"].keys():
                checked += 1
                wrong += [f"{document}: {'.'.join(p)}" for p in key_paths(data) if not resolves(Settings, list(p))]
    assert wrong == []
    assert checked >= 3


@pytest.mark.parametrize("path", ["mail.smtp", "crawl.iams", "mail.routes.vendors", "rules.timeouts"])
def test_a_wrong_setting_is_found(path: str) -> None:
    """The check finds settings that do not exist, in groups and in lists of groups."""
    assert resolves(Settings, ["mail", "routes", "vendor"])
    assert resolves(Settings, ["rules", "parameters", "any-rule", "any-parameter"])
    assert not resolves(Settings, path.split("."))


def test_every_view_exists() -> None:
    """A view that a document names as such exists: view `keys`, FROM keys_as_of(1), FROM keys_history."""
    known = columns()
    named = [
        Mention(document, name)
        for document, text in DOCUMENTS.items()
        for name in (
            *re.findall(r"\bview `(\w+)`", text),
            *(re.sub(r"_as_of$", "", name) for name in re.findall(r"\bFROM (\w+(?:_as_of|_history))\b", text)),
        )
    ]
    assert [str(mention) for mention in named if mention.text not in known] == []
    assert len(named) > 8


def queries() -> Iterator[Mention]:
    """The SQL examples: blocks, and arguments of `kmsledger sql`."""
    for document, text in DOCUMENTS.items():
        if document not in OTHER_QUERIES:
            yield from (Mention(document, block) for language, block in split(text)[0] if language == "sql")
    for document, line in command_lines():
        words = shlex.split(line, comments=True)
        if words[0] == "sql":
            yield from (Mention(document, word) for word in words[1:] if word.upper().startswith("SELECT "))


def test_every_query_has_known_views_and_columns(tmp_path: Path) -> None:
    """Each SQL example binds to the views of a mart, so a removed view, column or macro fails."""
    mart = tmp_path / "mart.duckdb"
    offer_schema(mart)
    wrong = []
    found = list(queries())
    with duckdb.connect(str(mart), read_only=True) as connection:
        for query in found:
            try:
                connection.execute(f"EXPLAIN {query.text}")
            except duckdb.Error as error:
                wrong.append(f"{query.document}: {error}")
        with pytest.raises(duckdb.BinderException):
            connection.execute("EXPLAIN SELECT no_such_column FROM keys")
    assert wrong == []
    assert len(found) >= 10


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a document, as GitHub derives them."""
    _, prose = split(text)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_heading() -> None:
    """Relative links and images of all documents lead to a file of the repository, and to a heading if they name one."""
    count, wrong = 0, []
    for document, text in DOCUMENTS.items():
        _, prose = split(text)
        for target in (*re.findall(r"\]\(([^)\s]+)\)", prose), *re.findall(r'(?:src|srcset)="([^"]+)"', prose)):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            path = (ROOT / document).parent / name if name else ROOT / document
            if not path.exists() or (anchor and anchor not in anchors(path_text(path))):
                wrong.append(f"{document}: {target}")
    assert wrong == []
    assert count > 40


def path_text(path: Path) -> str:
    """The text of a document; a directory stands for its README."""
    return (path / "README.md" if path.is_dir() else path).read_text(encoding="utf-8")
