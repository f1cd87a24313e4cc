"""The built wheel, installed in an empty environment."""

import configparser
import email
import fnmatch
import os
import sqlite3
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.deep

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("crawler", "migrations", "models", "reports")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without access to this checkout and the environment of the tests."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "KMSLEDGER_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True, timeout=600)


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def members(built_wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(built_wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def kmsledger(built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script of an environment with the wheel and its dependencies at the locked versions, nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, symlinks=True, with_pip=False)
    # Without the hashes, because pip would otherwise require a hash of the built wheel.
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    versions = [line.removesuffix("\\") for line in lock if not line.startswith((" ", "#"))]
    constraints = directory / "constraints.txt"
    constraints.write_text("\n".join(versions), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--python", directory / "bin" / "python", "--disable-pip-version-check")
    install = ("install", "--quiet", "--no-compile", "--only-binary", ":all:", "--constraint", constraints, built_wheel)
    succeed(*pip, *install, cwd=directory)
    return directory / "bin" / "kmsledger"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Minimal settings: the ledger and the report directory."""
    path = tmp_path / "cfg.yaml"
    path.write_text("database: sqlite:///ledger.db\nreport:\n  directory: report\n", encoding="utf-8")
    return path


def test_the_wheel_contains_the_command_and_the_four_packages(members: dict[str, bytes]) -> None:
    """The wheel contains all files of the packages, including templates, SQL and migrations, and nothing else."""
    expected = {"kmsledger.py"} | {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in members if ".dist-info/" not in name} == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "migrations/versions/*_*.py",
        "migrations/env.py",
        "migrations/script.py.mako",
        "reports/*.j2",
        "reports/*.sql",
        "reports/*.yaml",
    ],
)
def test_the_wheel_contains_each_kind_of_data(members: dict[str, bytes], pattern: str) -> None:
    """The wheel contains each kind of file that is read at run time."""
    assert fnmatch.filter(members, pattern)


def test_the_wheel_installs_one_command_and_cannot_be_published(members: dict[str, bytes]) -> None:
    """The only script is kmsledger, the license is included, and a public index would reject the upload."""
    info = {name.partition(".dist-info/")[2]: content for name, content in members.items() if ".dist-info/" in name}
    scripts = configparser.ConfigParser()
    scripts.read_string(info["entry_points.txt"].decode())
    metadata = email.message_from_bytes(info["METADATA"])
    assert {section: dict(scripts[section]) for section in scripts.sections()} == {
        "console_scripts": {"kmsledger": "kmsledger:main"}
    }
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "licenses/LICENSE" in info
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])


def test_the_installed_command_shows_its_help(kmsledger: Path, tmp_path: Path) -> None:
    """After `pip install` of the wheel, `kmsledger --help` works in any directory."""
    assert "Usage: kmsledger" in succeed(kmsledger, "--help", cwd=tmp_path)


def test_the_installed_command_migrates_a_database(kmsledger: Path, config: Path, tmp_path: Path) -> None:
    """The wheel contains the migrations: an empty database is upgraded to the latest schema."""
    succeed(kmsledger, "db", "upgrade", "--config", config, cwd=tmp_path)
    assert (tmp_path / "ledger.db").stat().st_size > 0


def test_the_installed_command_renders_a_report(kmsledger: Path, config: Path, tmp_path: Path) -> None:
    """The wheel contains views, rules and templates: mart and report are built from a ledger with a run."""
    succeed(kmsledger, "db", "upgrade", "--config", config, cwd=tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        ledger.execute(
            "insert into run (started_at, finished_at, status, version, accounts, scopes, calls, gaps) "
            "values ('2026-01-02 03:00:00.000000', '2026-01-02 03:04:05.000000', 'complete', '0', 0, 0, 0, 0)"
        )
    succeed(kmsledger, "report", "--config", config, cwd=tmp_path)
    assert list((tmp_path / "report").rglob("*.html"))
