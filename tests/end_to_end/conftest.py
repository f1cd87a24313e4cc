"""The whole product, as its user runs it: the command, an ordinary settings file, AWS over HTTP, mail over SMTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo import certificates
from demo.__main__ import environment, write_settings
from demo.organization import EXTERNAL_ID, World, apply_permanent_faults
from demo.server import AwsServer
from demo.smtp import MailServer

USER, PASSWORD = "kmsledger", "demo-password"


@dataclass
class House:
    """An organization, a mail server, and a directory with a settings file to run commands in."""

    aws: AwsServer
    world: World
    mail: MailServer
    directory: Path
    settings: Path
    extra: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `kmsledger` with the settings file; the caller looks at exit code and output."""
        command = [str(Path(sys.executable).with_name("kmsledger")), *arguments, "--config", str(self.settings)]
        env = {**environment(self.aws, EXTERNAL_ID), **self.extra}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240, **options)

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of the mart, through the command."""
        done = self.run("sql", query, "--format", "json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

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


@pytest.fixture(scope="module")
def crawled(
    aws_server: AwsServer,
    demo_world: World,
    mail: MailServer,
    tls: certificates.Certificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> House:
    """The organization after one crawl; tests that go on from here take a copy.

    Anew for each file: what other files put back leaves traces, such as the time at which an alias was last moved.
    """
    house = make_house(aws_server, demo_world, mail, tls, tmp_path_factory.mktemp("crawled") / "house")
    apply_permanent_faults(aws_server, demo_world)
    done = house.run("crawl")
    assert done.returncode == 3, done.stderr
    return house


@pytest.fixture
def house(crawled: House, tmp_path: Path) -> House:
    """A copy of the crawled organization's ledger, for one test to go on from."""
    return crawled.copy(tmp_path / "house")


@pytest.fixture
def fresh(
    aws_server: AwsServer, demo_world: World, mail: MailServer, tls: certificates.Certificates, tmp_path: Path
) -> House:
    """The organization with no ledger yet."""
    return make_house(aws_server, demo_world, mail, tls, tmp_path / "fresh")
