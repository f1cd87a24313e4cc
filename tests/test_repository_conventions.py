"""The rules of the house that no tool checks: what may import what, what files may say, how tests are written."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400
LONGER_BECAUSE = {
    "migrations/versions/0001_ledger.py": "one migration creates all tables of the first release, in one transaction",
    "tests/reports/access/engine/cases_conditions.py": "a table of cases, to be read as one",
    "tests/reports/access/engine/cases_denials.py": "a table of cases, to be read as one",
    "tests/reports/access/engine/cases_principals.py": "a table of cases, to be read as one",
    "tests/reports/vendors/test_evaluate.py": "every verdict of a profile, one test each, on one estate",
}
HEAVY = {"adbc_driver_manager", "alembic", "boto3", "botocore", "duckdb", "jinja2", "pydantic", "rich", "sqlalchemy"}
FORBIDDEN_TEXT = {
    "a path of somebody's machine": re.compile(r"(?<![\w.:}-])/(?:(?:home|Users)/\w|root/)"),
    "the address of a package index": re.compile(
        r"https?://\S*(?:pypi\.|pythonhosted|/simple\b)|(?:^|\s)--?(?:extra-index-url|index-url|find-links)\b",
        re.MULTILINE,
    ),
}


def repository_files() -> list[Path]:
    """Every file that is, or is about to be, under version control."""
    # A checkout in a container often belongs to another user, which git otherwise refuses to read.
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


def test_nothing_imports_the_roof() -> None:
    """Only the console script knows kmsledger.py; import-linter cannot take a single module as a root."""
    guilty = [
        name_of(path)
        for path in python_files()
        if any(name.split(".")[0] == "kmsledger" for name in imported_modules(ast.parse(path.read_bytes())))
    ]
    assert guilty == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_command_answers_without_loading_the_libraries(arguments: list[str]) -> None:
    """Help and version come at once: the libraries that take long to import wait for the command that needs them."""
    program = (
        "import sys, json, kmsledger\n"
        f"sys.argv = ['kmsledger', *{arguments!r}]\n"
        "try:\n"
        "    kmsledger.main()\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in json.loads(done.stderr)}
    assert "kmsledger" in done.stdout
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_names_the_machine_it_was_made_on(what: str) -> None:
    """A checkout works anywhere, with anybody's package index: no home directory and no index is written down."""
    guilty = [
        f"{name_of(path)}: {match.group(0).strip()}"
        for path in repository_files()
        if (match := FORBIDDEN_TEXT[what].search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert guilty == []


def test_every_test_says_which_behaviour_it_guards() -> None:
    """A test function without a docstring does not say what breaks for the user when it fails."""
    guilty = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in python_files()
        if name_of(path).startswith("tests/")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert guilty == []


def test_files_stay_short_enough_to_be_read() -> None:
    """No Python file exceeds the limit unless its reason is listed, and no listed exception outlives its reason."""
    long = {name_of(path) for path in python_files() if len(path.read_bytes().splitlines()) > LONGEST}
    assert long == set(LONGER_BECAUSE)


def test_only_the_door_may_speak_to_aws() -> None:
    """The import contract covers every package of the wheel, and excepts only crawler.aws and the SES sender."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contract = next(each for each in project["importlinter"]["contracts"] if "calls AWS" in each["name"])
    packages = {name for name in project["hatch"]["build"]["targets"]["wheel"]["only-include"] if "." not in name}
    excepted = {line.split(" -> ")[0] for line in contract["ignore_imports"]}
    assert set(project["importlinter"]["root_packages"]) == packages
    assert set(contract["source_modules"]) == packages
    assert excepted == {"crawler.aws", "crawler.aws.**", "reports.notify.ses"}
