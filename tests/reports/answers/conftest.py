"""Marts of the sample organization, with and without IAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reports.answers.repository import Facts, opened
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer
from tests.reports.answers.sample_organization import organization
from tests.reports.ledger_builder import build_mart, settings_of

WhoCan = Callable[..., Answer]


def organization_mart(folder: Path, *, iam: bool) -> Path:
    """The mart of the organization after one run."""
    world = organization(folder / "ledger.db", iam=iam)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "answers.duckdb"})
    build_mart(settings)
    return settings.report.mart


@pytest.fixture(scope="session")
def mart_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mart of an organization whose IAM was collected."""
    return organization_mart(tmp_path_factory.mktemp("answers"), iam=True)


@pytest.fixture(scope="session")
def without_iam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mart of an organization whose IAM was not collected."""
    return organization_mart(tmp_path_factory.mktemp("answers-without-iam"), iam=False)


@pytest.fixture
def run_who_can(mart_path: Path) -> WhoCan:
    """`who_can` on the mart with IAM."""
    return lambda operation, target: who_can(mart_path, operation, target)


@pytest.fixture
def run_who_can_without_iam(without_iam: Path) -> WhoCan:
    """`who_can` on the mart without IAM."""
    return lambda operation, target: who_can(without_iam, operation, target)


@pytest.fixture
def facts(mart_path: Path) -> Iterator[Facts]:
    """The facts of the mart with IAM."""
    with opened(mart_path) as facts:
        yield facts
