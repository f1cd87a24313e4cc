"""Databases for the tests, made by the migrations: SQLite files, and databases of a real PostgreSQL server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from demo import organization
from demo.server import AwsServer
from models.store.engine import connect, upgrade
from tests import hypothesis_profiles, postgres

hypothesis_profiles.load()

ENGINES = ("sqlite", "postgresql")


def _made_by_migrations(url: str) -> str:
    engine = connect(url)
    upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> Iterator[str]:
    with postgres.database(postgresql_server) as url:
        yield _made_by_migrations(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    _made_by_migrations(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """An empty ledger in a SQLite file."""
    path = tmp_path / "ledger.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_server: str, postgresql_template: str) -> Iterator[str]:
    """An empty ledger in a PostgreSQL database."""
    with postgres.database(postgresql_server, template=postgresql_template) as url:
        yield url


@pytest.fixture(params=ENGINES)
def ledger_url(request: pytest.FixtureRequest) -> str:
    """An empty ledger, once on each engine."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Engine]:
    """An empty ledger, once on each engine, connected."""
    engine = connect(ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=ENGINES)
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    with postgres.database(request.getfixturevalue("postgresql_server")) as url:
        yield url


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """One AWS a process, because moto's state is the process's; tests put back what they change."""
    with AwsServer() as server:
        yield server


@pytest.fixture(scope="session")
def demo_world(aws_server: AwsServer) -> organization.World:
    """The made-up organization in it."""
    aws_server.reset()
    return organization.build(aws_server)
