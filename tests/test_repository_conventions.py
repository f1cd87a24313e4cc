"""Repository conventions that no tool checks: imports, file contents, and how tests are written."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600
EXCEPTIONS = {
    "tests/reports/access/engine/cases_conditions.py": "one table of test cases",
}
HEAVY_MODULES = {
    "adbc_driver_manager",
    "alembic",
    "boto3",
    "botocore",
    "duckdb",
    "jinja2",
    "pydantic",
    "rich",
    "sqlalchemy",
}
FORBIDDEN_TEXT = {
    "a path of a local machine": re.compile(r"(?<![\w.:}-])/(?:(?:home|Users)/\w|root/)"),
    "the address of a package index": re.compile(
        r"https?://\S*(?:pypi\.|pythonhosted|/simple\b)|(?:^|\s)--?(?:extra-index-url|index-url|find-links)\b",
        re.MULTILINE,
    ),
}

RETIRED_WORDS = re.compile(
    r"\b(?:told|untold|crew|roof|wing|doubt|taken back|goes on from|manners|books)\b", re.IGNORECASE
)
"""Words that earlier versions used for a standard term, such as "told" for "reported"."""
HISTORICAL_FILES = {"CHANGELOG.md", "requirements.lock", "tests/test_repository_conventions.py"}


def repository_files() -> list[Path]:
    """All files that are, or will be, under version control."""
    # A checkout in a container often belongs to another user; git rejects that without this option.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({path for name in listing.split("\0") if name and (path := ROOT / name).is_file()})


def python_files() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module


def test_nothing_imports_the_entry_point() -> None:
    """No module imports kmsledger.py; import-linter cannot check a single module."""
    violations = [
        name_of(path)
        for path in python_files()
        if any(name.split(".")[0] == "kmsledger" for name in imported_modules(ast.parse(path.read_bytes())))
    ]
    assert violations == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_do_not_load_heavy_libraries(arguments: list[str]) -> None:
    """Help and version are fast, because libraries with a slow import are loaded only by the commands that need them."""
    program = (
        "import sys, json, kmsledger\n"
        f"sys.argv = ['kmsledger', *{arguments!r}]\n"
        "try:\n"
        "    kmsledger.main()\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    completed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(completed.stderr)}
    assert "kmsledger" in completed.stdout
    assert loaded & HEAVY_MODULES == set()


@pytest.mark.parametrize("description", FORBIDDEN_TEXT)
def test_no_file_contains_local_paths_or_package_indexes(description: str) -> None:
    """A checkout works on any machine with any package index: no file contains a home directory or an index address."""
    violations = [
        f"{name_of(path)}: {match.group(0).strip()}"
        for path in repository_files()
        if (match := FORBIDDEN_TEXT[description].search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert violations == []


def test_retired_words_stay_out() -> None:
    """Each concept has one term: no text file contains a word that was replaced with a standard term."""
    violations = [
        f"{name_of(path)}: {match.group(0)}"
        for path in repository_files()
        if name_of(path) not in HISTORICAL_FILES and b"\0" not in path.read_bytes()
        for match in RETIRED_WORDS.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert violations == []


def test_every_test_has_a_docstring() -> None:
    """Every test function documents the behaviour that it verifies."""
    violations = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in python_files()
        if name_of(path).startswith("tests/")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert violations == []


def test_python_files_have_a_maximum_length() -> None:
    """Only the listed exceptions exceed the limit, and all of them do."""
    long = {name_of(path) for path in python_files() if len(path.read_bytes().splitlines()) > MAX_LINES}
    assert long == set(EXCEPTIONS)


def test_byte_code_is_stored_during_tests() -> None:
    """Whatever the environment says, compiled modules are stored: neither the next test run nor a started process repeats it."""
    assert not sys.dont_write_bytecode
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_only_the_aws_client_calls_aws() -> None:
    """The import contract covers every package of the wheel, and excepts only crawler.aws and the mail through Amazon SES."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contract = next(each for each in project["importlinter"]["contracts"] if "calls AWS" in each["name"])
    packages = {name for name in project["hatch"]["build"]["targets"]["wheel"]["only-include"] if "." not in name}
    excepted = {line.split(" -> ")[0] for line in contract["ignore_imports"]}
    assert set(project["importlinter"]["root_packages"]) == packages
    assert set(contract["source_modules"]) == packages
    assert excepted == {"crawler.aws", "crawler.aws.**", "reports.notify.ses"}
