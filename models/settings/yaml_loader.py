"""A YAML loader that returns scalars as text, together with their positions.

YAML 1.1 reads `no` as false, `0123456701` as octal and `1e3` as a float. This loader keeps every scalar as written, and the
type of the setting interprets it. Only a plain `null`, `~` or an empty value is None. Environment references are replaced
after parsing, so that their values are never parsed as YAML.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

KeyPath: TypeAlias = tuple[str | int, ...]
Kind: TypeAlias = Literal["text", "nothing", "list", "mapping"]
Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Loads text, lists and mappings only; the libyaml variant is ten times as fast."""
_MAX_DEPTH = 32  # settings have six levels; more is a mistake or a recursive anchor
_MAX_REPEATS = 10_000  # values repeated through aliases; the limit stops alias bombs
_MAX_INDICATORS = 5000  # more characters than that in a line, or brackets in a file, could open too many levels
_RARE_SPACE = re.compile(r"[\t\x85\u2028\u2029\ufeff]")
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_KINDS: dict[type[yaml.Node], tuple[Kind, str]] = {
    yaml.ScalarNode: ("text", "tag:yaml.org,2002:str"),
    yaml.SequenceNode: ("list", "tag:yaml.org,2002:seq"),
    yaml.MappingNode: ("mapping", "tag:yaml.org,2002:map"),
}
"""The kind of a value, and its tag unless the file states another."""
_REFERENCE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\{))"
)
_QUOTED = re.compile(r"'([^']*)'")  # in parser messages: a token, or part of a possible secret


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a settings file. `line` and `column` start at 1.

    Line 0 means the whole file; then `found` is the cause and `expected` the fix.
    """

    file: str
    line: int
    column: int
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.found}: {self.expected}"
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}:{self.column}: {key}found {self.found}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a value, and its text before environment references were replaced."""

    line: int
    column: int
    kind: Kind
    written: str = ""


@dataclass(slots=True)
class Source:
    """The content of a file: `values` to validate, positions of values and keys by key path, and problems."""

    file: str
    values: Value = None
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    keys: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    reported: set[KeyPath] = field(default_factory=set)  # values with a reported problem, which are not validated again


def read(path: Path, env: Mapping[str, str], *, listed: bool = False) -> Source:
    """Read a UTF-8 YAML file whose top level is a mapping, or a list if `listed`; `problems` has all its errors."""
    source = Source(file=str(path))
    text = _text(path, source)
    if text is None:
        return source
    if listed and all(line.lstrip()[:1] in {"", "#"} for line in text.splitlines()):
        return source  # a list without items
    root = _compose(text, source)
    if root is None:
        return source
    if not isinstance(root, yaml.SequenceNode if listed else yaml.MappingNode):
        kind = "no settings" if _is_null(root) else f"a {_KINDS[type(root)][0]}"
        expected = "a list at the top (- key: value)" if listed else "a mapping of settings at the top (key: value)"
        _add_problem(source, (), root, kind, expected)
        return source
    source.values = _NodeConverter(source, env).value(root, ())
    return source


class TooLargeError(yaml.MarkedYAMLError):
    """A text with more levels or repeated values than a person writes; `problem` is what was found, `note` the limit."""


def compose(text: str) -> yaml.Node | None:
    """The root node of a YAML text with at most one document; None if it has none. See :func:`compose_all`."""
    root: yaml.Node | None = _parse(yaml.compose, text)
    _check_size([root] if root else [])
    return root


def compose_all(text: str) -> list[yaml.Node]:
    """The root nodes of the documents in a YAML text. Every scalar is a text, as written, with its position.

    The nodes are safe to walk: they have at most 32 levels, and aliases repeat at most 10,000 values. Raises
    yaml.MarkedYAMLError for invalid YAML and forbidden characters, and its subclass TooLargeError for a text beyond the limits.
    """
    roots: list[yaml.Node] = _parse(lambda text, loader: list(yaml.compose_all(text, loader)), text)
    _check_size(roots)
    return roots


def _parse(parser: Callable[[str, Any], Any], text: str) -> Any:
    # libyaml is ten times as fast, but explains errors less well, accepts some invalid white space, and overflows the stack.
    depth = max(map(len, text.splitlines()), default=0) + text.count("[") + text.count("{")
    if depth < _MAX_INDICATORS and not _RARE_SPACE.search(text):
        with suppress(yaml.YAMLError):
            return parser(text, _LOADER)
    try:
        return parser(text, yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        mark = yaml.Mark("", error.position, *_end(text[: error.position]), "", 0)
        cause = f"the character U+{ord(text[error.position]):04X} is not allowed"
        raise yaml.MarkedYAMLError(problem=cause, problem_mark=mark) from error
    except RecursionError as error:
        raise yaml.MarkedYAMLError(problem="lists or mappings nested too deeply") from error


def _check_size(roots: Iterable[yaml.Node]) -> None:
    """Visit every value as often as aliases repeat it. Raises TooLargeError; an alias inside itself is endless depth."""
    seen: set[int] = set()
    repeats = 0
    nodes = [(root, 0) for root in roots]
    while nodes:
        node, depth = nodes.pop()
        repeats += id(node) in seen
        seen.add(id(node))
        if repeats > _MAX_REPEATS:
            raise TooLargeError(
                problem="aliases that repeat too many values",
                problem_mark=node.start_mark,
                note=f"at most {_MAX_REPEATS} repeated values: write the lists out or repeat less",
            )
        if isinstance(node, yaml.ScalarNode):
            continue
        if depth >= _MAX_DEPTH:
            problem = "values nested too deeply, or an alias inside itself"
            raise TooLargeError(problem=problem, problem_mark=node.start_mark, note=f"at most {_MAX_DEPTH} levels")
        pairs = [(None, item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value
        nodes += [(value, depth + 1) for _, value in pairs]
        nodes += [(key, depth + 1) for key, _ in pairs if isinstance(key, yaml.CollectionNode)]


def key_text(path: KeyPath) -> str:
    """Format a key path as `organization.accounts[3].id`; ambiguous parts are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = re.fullmatch(r"[\w-]+", part)
            text += ("." if text else "") + (part if plain else quoted(part))
    return text


def quoted(text: str, limit: int = 80) -> str:
    """Quote untrusted text for one line of a terminal: control characters are escaped, long text is cut."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    safe = "".join(c if c.isprintable() and c not in '"\\' else c.encode("unicode_escape").decode() for c in cut)
    return '"' + safe.replace('"', '\\"') + '"'


def _text(path: Path, source: Source) -> str | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        cause, fix = "the file does not exist", "create it (`kmsledger init`), or correct the path"
    except IsADirectoryError:
        cause, fix = "the path is a directory", "name a YAML file"
    except OSError as error:
        cause, fix = f"the file cannot be read ({error.strerror})", "correct the path or the permissions"
    except ValueError:
        source.file = source.file.replace("\0", "?")
        cause, fix = "the path contains a NUL character", "correct the path"
    else:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # Columns count characters; all bytes before the invalid one are valid.
            line, column = _end(raw[: error.start].decode("utf-8-sig", errors="replace"))
            found = f"byte 0x{raw[error.start]:02x}, which is not UTF-8"
            source.problems.append(Problem(source.file, line + 1, column + 1, "", found, "a file saved as UTF-8"))
            return None
    source.problems.append(Problem(source.file, 0, 0, "", cause, fix))
    return None


def _compose(text: str, source: Source) -> yaml.Node | None:
    found, expected, line, column = "no settings", "a mapping of settings (key: value)", 1, 1
    try:
        root = compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
        if isinstance(error, TooLargeError):
            found, expected = error.problem or "", error.note or ""
        else:
            cause = _explain(error.problem or error.context or "the parser gives no reason")
            found, expected = f"a YAML syntax error: {cause}", "valid YAML"
    else:
        if root is not None:
            return root
    source.problems.append(Problem(source.file, line, column, "", found, expected))
    return None


def _end(text: str) -> tuple[int, int]:
    """Line and column, from 0, at which a text ends."""
    return text.count("\n"), len(text) - (text.rfind("\n") + 1)


def _explain(cause: str) -> str:
    """Return the reason of the parser without content of the file, and with the likely mistake."""
    if "undefined alias" in cause:
        return "an alias without its anchor; a value that begins with * needs quotes"
    if "'\\t'" in cause:
        return "a tab; indent with spaces"
    if "mapping values are not allowed" in cause:
        return "a second colon on the line; a value with a colon needs quotes, or the indent is wrong"
    shown = _QUOTED.sub(lambda word: word[0] if len(word[1]) < 2 or word[1].startswith("<") else "(hidden)", cause)
    if "or '}'" in cause or "or ']'" in cause:
        return f"{shown}; inside {{ }} and [ ] a value with braces, such as ${{NAME}}, needs quotes"
    return shown


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and _NULL.match(node.value) is not None


def _position(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _add_problem(source: Source, path: KeyPath, node: yaml.Node, found: str, expected: str) -> None:
    source.reported.add(path)
    source.problems.append(Problem(source.file, *_position(node), key_text(path), found, expected))


class _NodeConverter:
    """Converts nodes to values, and records their positions."""

    def __init__(self, source: Source, env: Mapping[str, str]) -> None:
        self.source = source
        self.env = env

    def value(self, node: yaml.Node, path: KeyPath) -> Value:
        kind, tag = _KINDS[type(node)]
        written = node.value if isinstance(node, yaml.ScalarNode) else ""
        self.source.positions[path] = Position(*_position(node), "nothing" if _is_null(node) else kind, written)
        if node.tag != tag:
            expected = "a value without a tag; put quotes around a !"
            _add_problem(self.source, path, node, "a value with a tag (!)", expected)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._substitute(node, path) if isinstance(node, yaml.ScalarNode) and not _is_null(node) else None

    def _mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.value:
                kind = "an empty key" if isinstance(key_node, yaml.ScalarNode) else "a list or mapping as a key"
                problem = Problem(self.source.file, *_position(key_node), key_text(path), kind, "a name as the key")
                self.source.problems.append(problem)
                continue
            if key_node.value == "<<" and not key_node.style:
                _add_problem(self.source, (*path, "<<"), key_node, "a merge key", "the keys written out")
                continue
            inner = (*path, key_node.value)
            if key_node.value in values:
                (line, column), first = _position(key_node), self.source.keys[inner][0]
                found = f"the same key twice (line {first} and line {line})"
                self.source.problems.append(
                    Problem(self.source.file, line, column, key_text(inner), found, "each key once")
                )
                continue
            self.source.keys[inner] = _position(key_node)
            values[key_node.value] = self.value(value_node, inner)
        return values

    def _substitute(self, node: yaml.ScalarNode, path: KeyPath) -> str:
        """Replace `${NAME}` and `${NAME:-default}`; `$$`, and any other `$`, is a dollar sign."""

        def fill(reference: re.Match[str]) -> str:
            if reference["escaped"]:
                return "$"
            if reference["broken"]:
                _add_problem(
                    self.source, path, node, "${ without a name", "${NAME}, ${NAME:-default}, or $$ for a dollar"
                )
                return reference.group()
            value = self.env.get(reference["name"])
            if reference["default"] is not None:
                return value or reference["default"]
            if value is None:
                expected = f"{reference['name']} in the environment, or ${{{reference['name']}:-default}}"
                _add_problem(self.source, path, node, f"no environment variable {reference['name']}", expected)
                return reference.group()
            return value

        text: str = node.value
        return _REFERENCE.sub(fill, text) if "$" in text else text
