"""End-to-end fixtures: the command with an ordinary settings file, AWS over HTTP, mail over SMTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import certificates
from demo.__main__ import environment, write_settings
from demo.organization import EXTERNAL_ID, World, apply_permanent_faults
from demo.server import AwsServer
from demo.smtp import MailServer
from tests import command
from tests.made_once import made_once
from tests.reports.mart_schema import offer_schema

USER, PASSWORD = "kmsledger", "demo-password"
COMMAND = str(Path(sys.executable).with_name("kmsledger"))
RULES = Path(__file__).parents[2] / "reports" / "rules" / "shipped"
FEW_RULES = {"key-rotation", "secret-customer-managed-key"}
CALLS = "calls.json"
"""The calls of the crawl that made the files: pairs of service and operation."""
FILES = ("ledger.db", "kmsledger.duckdb", CALLS)


@dataclass
class Installation:
    """A directory with a settings file, and the environment variables of the command."""

    mail: MailServer
    directory: Path
    settings: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kmsledger` with the settings file in this process; the caller checks exit code and output."""
        return command.run(*arguments, "--config", str(self.settings), env=self.environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kmsledger` with the settings file in a separate process."""
        return subprocess.Popen(
            [COMMAND, *arguments, "--config", str(self.settings)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Query the mart through the command."""
        done = self.run("sql", query, "--format", "json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def change(self, **values: object) -> None:
        """Change top-level groups of the settings file."""
        settings = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        for name, value in values.items():
            settings[name] = {**settings.get(name, {}), **value} if isinstance(value, dict) else value
        self.settings.write_text(yaml.safe_dump(settings), encoding="utf-8")


@dataclass
class Workspace(Installation):
    """An installation that is connected to the demo organization."""

    aws: AwsServer
    world: World

    def copy(self, directory: Path) -> Workspace:
        """A workspace with a copy of the current files."""
        shutil.copytree(self.directory, directory, dirs_exist_ok=True)
        settings = directory / self.settings.name
        return Workspace(self.mail, directory, settings, dict(self.environment), self.aws, self.world)


@pytest.fixture(autouse=True)
def no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove the faults of each test; the permanent faults of the organization stay. Only tests that use it make it."""
    if "demo_world" not in request.fixturenames:
        yield
        return
    aws_server: AwsServer = request.getfixturevalue("aws_server")
    apply_permanent_faults(aws_server, request.getfixturevalue("demo_world"))
    yield
    aws_server.clear_faults()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    """A temporary CA and a certificate for localhost."""
    return certificates.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def mail(tls: certificates.Certificates) -> Iterator[MailServer]:
    """A real mail server with STARTTLS and AUTH."""
    with MailServer(tls, user=USER, password=PASSWORD, rejected={"gone@northwind.example"}) as server:
        yield server


def make_workspace(
    aws: AwsServer, world: World, mail: MailServer, tls: certificates.Certificates, directory: Path
) -> Workspace:
    """A new workspace without a ledger."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = write_settings(directory, aws.url, world, mail.port)
    offer_schema(directory / "kmsledger.duckdb")
    (directory / "tls").mkdir()
    shutil.copy(tls.authority, directory / "tls" / "ca.pem")
    return Workspace(mail, directory, settings, {**environment(aws, EXTERNAL_ID)}, aws, world)


def narrow(workspace: Workspace) -> None:
    """Restrict the settings to one account, one region and a few rules, for tests that need no organization."""
    rules = {path.stem for path in RULES.glob("*.sql")}
    assert rules > FEW_RULES
    workspace.change(
        organization={"include": {"accounts": [workspace.world.accounts["platform"]]}},
        regions={"include": ["us-east-1"]},
        vendors={"profiles": {}},
        rules={"disable": sorted(rules - FEW_RULES), "parameters": {}},
    )


def crawled_workspace(workspace: Workspace, shared: Path) -> Workspace:
    """Copy the files of one crawl into the workspace; the first process of the test run makes the crawl."""

    def crawl(files: Path) -> None:
        apply_permanent_faults(workspace.aws, workspace.world)  # an earlier test of the module removed them
        mark = workspace.aws.mark()
        done = workspace.run("crawl")
        assert done.returncode == 3, done.stderr
        calls = sorted({(call.service, call.operation) for call in workspace.aws.calls_since(mark)})
        (workspace.directory / CALLS).write_text(json.dumps(calls), encoding="utf-8")
        files.mkdir()
        for name in FILES:
            shutil.copy(workspace.directory / name, files)

    files = made_once(shared, crawl)
    for name in FILES:
        shutil.copy(files / name, workspace.directory)
    return workspace


@pytest.fixture(scope="module")
def new_workspace(
    aws_server: AwsServer, demo_world: World, mail: MailServer, tls: certificates.Certificates
) -> Callable[[Path], Workspace]:
    """A factory of workspaces without a ledger."""
    apply_permanent_faults(aws_server, demo_world)
    return lambda directory: make_workspace(aws_server, demo_world, mail, tls, directory)


@pytest.fixture(scope="module")
def crawled(
    new_workspace: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory, shared_directory: Path
) -> Workspace:
    """The whole organization after one crawl; read-only, tests that change it use a copy."""
    return crawled_workspace(
        new_workspace(tmp_path_factory.mktemp("crawled") / "workspace"), shared_directory / "crawled"
    )


@pytest.fixture(scope="module")
def crawled_account(
    new_workspace: Callable[[Path], Workspace], tmp_path_factory: pytest.TempPathFactory, shared_directory: Path
) -> Workspace:
    """One account of the organization, in one region, after one crawl."""
    workspace = new_workspace(tmp_path_factory.mktemp("account") / "workspace")
    narrow(workspace)
    return crawled_workspace(workspace, shared_directory / "crawled-account")


@pytest.fixture
def workspace(crawled: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the crawled organization for one test."""
    return crawled.copy(tmp_path / "workspace")


@pytest.fixture
def account_workspace(crawled_account: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the crawled account for one test."""
    return crawled_account.copy(tmp_path / "account")


@pytest.fixture
def empty_workspace(new_workspace: Callable[[Path], Workspace], tmp_path: Path) -> Workspace:
    """The whole organization without a ledger."""
    return new_workspace(tmp_path / "empty")


@pytest.fixture
def empty_account_workspace(empty_workspace: Workspace) -> Workspace:
    """One account of the organization, in one region, without a ledger."""
    narrow(empty_workspace)
    return empty_workspace
