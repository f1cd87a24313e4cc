"""The whole product, as its user runs it: the command, an ordinary settings file, AWS over HTTP, mail over SMTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

USER, PASSWORD = "kmsledger", "demo-password"
COMMAND = str(Path(sys.executable).with_name("kmsledger"))
RULES = Path(__file__).parents[2] / "reports" / "rules" / "shipped"
FEW_RULES = {"key-rotation", "secret-customer-managed-key"}
FILES = ("ledger.db", "kmsledger.duckdb")


@dataclass
class House:
    """An organization, a mail server, and a directory with a settings file to run commands in."""

    aws: AwsServer
    world: World
    mail: MailServer
    directory: Path
    settings: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the command finds in its environment."""
        return {**environment(self.aws, EXTERNAL_ID), **self.extra}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `kmsledger` with the settings file, in this process; the caller looks at exit code and output."""
        return command.run(*arguments, "--config", str(self.settings), env=self.environment)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kmsledger` with the settings file, as a process of its own."""
        return subprocess.Popen(
            [COMMAND, *arguments, "--config", str(self.settings)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of the mart, through the command."""
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

    def copy(self, directory: Path) -> House:
        """The same organization with a copy of the ledger as it is now."""
        shutil.copytree(self.directory, directory, dirs_exist_ok=True)
        return House(self.aws, self.world, self.mail, directory, directory / self.settings.name, dict(self.extra))


@pytest.fixture(autouse=True)
def no_faults_left(aws_server: AwsServer, demo_world: World) -> Iterator[None]:
    """Each test injects its own faults; what the organization always refuses stays."""
    apply_permanent_faults(aws_server, demo_world)
    yield
    aws_server.clear_faults()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    """A throw-away authority and a certificate for localhost."""
    return certificates.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def mail(tls: certificates.Certificates) -> Iterator[MailServer]:
    """A real mail server with STARTTLS and AUTH."""
    with MailServer(tls, user=USER, password=PASSWORD, rejected={"gone@northwind.example"}) as server:
        yield server


def make_house(
    aws: AwsServer, world: World, mail: MailServer, tls: certificates.Certificates, directory: Path
) -> House:
    """A fresh directory with a settings file and no ledger yet."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = write_settings(directory, aws.url, world, mail.port)
    (directory / "tls").mkdir()
    shutil.copy(tls.authority, directory / "tls" / "ca.pem")
    return House(aws, world, mail, directory, settings)


def narrow(house: House) -> None:
    """Leave out all but one account, one region and a few rules: enough for tests that are not about the organization."""
    rules = {path.stem for path in RULES.glob("*.sql")}
    assert rules > FEW_RULES
    house.change(
        organization={"include": {"accounts": [house.world.accounts["platform"]]}},
        regions={"include": ["us-east-1"]},
        vendors={"profiles": {}},
        rules={"disable": sorted(rules - FEW_RULES), "parameters": {}},
    )


def crawled_house(house: House, shared: Path) -> House:
    """The house with the files of one crawl, which the first process of the test run makes."""

    def crawl(files: Path) -> None:
        done = house.run("crawl")
        assert done.returncode == 3, done.stderr
        files.mkdir()
        for name in FILES:
            shutil.copy(house.directory / name, files)

    files = made_once(shared, crawl)
    for name in FILES:
        shutil.copy(files / name, house.directory)
    return house


@pytest.fixture(scope="module")
def new_house(
    aws_server: AwsServer, demo_world: World, mail: MailServer, tls: certificates.Certificates
) -> Callable[[Path], House]:
    """Makes the organization's directory with a settings file and no ledger yet."""
    apply_permanent_faults(aws_server, demo_world)
    return lambda directory: make_house(aws_server, demo_world, mail, tls, directory)


@pytest.fixture(scope="module")
def crawled(
    new_house: Callable[[Path], House], tmp_path_factory: pytest.TempPathFactory, shared_directory: Path
) -> House:
    """The whole organization after one crawl, to be read; tests that go on from here take a copy."""
    return crawled_house(new_house(tmp_path_factory.mktemp("crawled") / "house"), shared_directory / "crawled")


@pytest.fixture(scope="module")
def crawled_account(
    new_house: Callable[[Path], House], tmp_path_factory: pytest.TempPathFactory, shared_directory: Path
) -> House:
    """One account of the organization, in one region, after one crawl."""
    house = new_house(tmp_path_factory.mktemp("account") / "house")
    narrow(house)
    return crawled_house(house, shared_directory / "crawled-account")


@pytest.fixture
def house(crawled: House, tmp_path: Path) -> House:
    """A copy of the whole organization's ledger, for one test to go on from."""
    return crawled.copy(tmp_path / "house")


@pytest.fixture
def account(crawled_account: House, tmp_path: Path) -> House:
    """A copy of one account's ledger, for one test to go on from."""
    return crawled_account.copy(tmp_path / "account")


@pytest.fixture(params=["account", pytest.param("house", marks=pytest.mark.deep)])
def any_size(request: pytest.FixtureRequest) -> House:
    """A copy of a crawled ledger: of one account, and of the whole organization under `make test-deep`."""
    made: House = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def fresh(new_house: Callable[[Path], House], tmp_path: Path) -> House:
    """The whole organization with no ledger yet."""
    return new_house(tmp_path / "fresh")


@pytest.fixture
def fresh_account(fresh: House) -> House:
    """One account of the organization, in one region, with no ledger yet."""
    narrow(fresh)
    return fresh
