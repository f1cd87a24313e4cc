"""Marts of the sample organization, with and without IAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.tables import Gap
from reports.answers.repository import Facts, opened
from reports.answers.who_can import who_can
from reports.answers.who_can_result import Answer
from tests.made_once import made_once
from tests.reports.answers.sample_organization import DATA, IRELAND, VENDOR, allow, organization, who
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


PUBLIC, EXPIRED, VALID = (f"00000000-0000-4000-8000-0000000000f{number}" for number in range(3))
"""Keys of account DATA: for everyone, and for account VENDOR until a time that has passed or has not."""


@pytest.fixture(scope="session")
def without_denials(shared_directory: Path) -> Path:
    """The mart of the organization without denied calls, with the keys PUBLIC, EXPIRED and VALID."""
    return made_once(shared_directory / "answers-without-denials", _make_mart_without_denials) / "answers.duckdb"


def _make_mart_without_denials(folder: Path) -> None:
    folder.mkdir()
    world = organization(folder / "ledger.db")
    del world.facts[Gap]
    everyone = allow("kms:Decrypt", Sid="Everyone", Principal="*")
    world.key(DATA, IRELAND, PUBLIC, policy=[everyone])
    for key_id, until in ((EXPIRED, "2020-01-01T00:00:00Z"), (VALID, "2999-01-01T00:00:00Z")):
        until_then = {"DateLessThan": {"aws:CurrentTime": until}}
        vendor = allow("kms:Decrypt", Principal={"AWS": who(VENDOR, "root")}, Condition=until_then)
        world.key(DATA, IRELAND, key_id, policy=[vendor])
    world.crawl()
    build_mart(settings_of(database=world.url, report={"mart": folder / "answers.duckdb"}))


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
