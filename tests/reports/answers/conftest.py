"""The marts of the small organization, with IAM collected and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reports.answers.repository import Facts, opened
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer
from tests.reports.answers.sample_organization import organization
from tests.reports.ledger_builder import build_mart, settings_of

Ask = Callable[..., Answer]


def made(folder: Path, *, iam: bool) -> Path:
    """A mart of the organization after one night."""
    world = organization(folder / "ledger.db", iam=iam)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "questions.duckdb"})
    build_mart(settings)
    return settings.report.mart


@pytest.fixture(scope="session")
def mart_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IAM was collected in every account."""
    return made(tmp_path_factory.mktemp("questions"), iam=True)


@pytest.fixture(scope="session")
def without_iam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing of IAM was collected."""
    return made(tmp_path_factory.mktemp("questions-off"), iam=False)


@pytest.fixture
def ask(mart_path: Path) -> Ask:
    """Ask who can, where IAM was collected."""
    return lambda operation, what: who_can(mart_path, operation, what)


@pytest.fixture
def ask_without(without_iam: Path) -> Ask:
    """Ask who can, where IAM was not collected."""
    return lambda operation, what: who_can(without_iam, operation, what)


@pytest.fixture
def facts(mart_path: Path) -> Iterator[Facts]:
    """What questions are answered from."""
    with opened(mart_path) as found:
        yield found
