"""Marts of the sample organization, with and without IAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reports.answers.repository import Facts, opened
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer
from tests.made_once import made_once
from tests.reports.answers.sample_organization import organization
from tests.reports.ledger_builder import build_mart, settings_of

WhoCan = Callable[..., Answer]


def organization_mart(folder: Path, *, iam: bool) -> None:
    """Make the mart of the organization after one run."""
    folder.mkdir()
    world = organization(folder / "ledger.db", iam=iam)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": folder / "answers.duckdb"})
    build_mart(settings)


@pytest.fixture(scope="session")
def mart_path(shared_directory: Path) -> Path:
    """The mart of an organization whose IAM was collected."""
    folder = made_once(shared_directory / "answers", lambda folder: organization_mart(folder, iam=True))
    return folder / "answers.duckdb"


@pytest.fixture(scope="session")
def without_iam(shared_directory: Path) -> Path:
    """The mart of an organization whose IAM was not collected."""
    folder = made_once(shared_directory / "answers-without-iam", lambda folder: organization_mart(folder, iam=False))
    return folder / "answers.duckdb"


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
