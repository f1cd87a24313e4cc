"""Fixtures for databases (SQLite files, and databases of a PostgreSQL server) and for the demo organization."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine

from models import console
from models.logging_setup import StandardErrorHandler
from models.store.engine import connect, upgrade
from tests import hypothesis_profiles, postgres
from tests.command import OWN_LOGGERS
from tests.made_once import made_once, share
from tests.reports.empty_ledger import create_ledger

if TYPE_CHECKING:
    from demo import organization
    from demo.server import AwsServer

hypothesis_profiles.load()
# Without byte code files, pytest rewrites all tests and each started process compiles all modules: seconds, a hundred times.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A background job ignores Ctrl-C and one under nohup the hangup, and so would the commands that the tests interrupt.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

UMASK = os.umask(0o077)
os.umask(UMASK)

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ("sqlite", "postgresql")
SLOWEST_FILES = (
    "end_to_end/test_killed_nights.py",
    "end_to_end/test_thirty_nights.py",
    "end_to_end/test_stages.py",
    "reports/mart/test_incremental.py",
    "crawler/test_invalid_responses.py",
    "benchmarks/test_speed.py",
    "chaos/test_chaos.py",
    "end_to_end/test_executors.py",
    "end_to_end/test_same_answers.py",
    "reports/html/test_browser.py",
    "test_containerfile.py",
    "end_to_end/test_hostile_texts.py",
    "end_to_end/test_resume.py",
    "end_to_end/test_permissions.py",
    "reports/rules/test_own_rules.py",
    "test_operations.py",
    "recipes/test_column.py",
    "end_to_end/test_tutorial.py",
    "reports/access/engine/test_properties.py",
    "reports/access/engine/test_exhaustive.py",
    "end_to_end/test_limited_runs.py",
    "reports/mart/test_as_of.py",
    "end_to_end/test_databases.py",
    "end_to_end/test_demo.py",
    "end_to_end/test_crawl.py",
    "end_to_end/test_readme.py",
    "reports/rules/testing/test_gap_mutations.py",
    "end_to_end/test_nightly.py",
    "test_wheel.py",
    "reports/mart/test_build.py",
    "end_to_end/test_failures.py",
    "reports/mart/test_publication.py",
    "end_to_end/test_partitions.py",
    "models/store/test_retention.py",
    "reports/mart/test_situations.py",
    "reports/answers/test_run_diff_property.py",
    "reports/html/test_subjects.py",
    "crawler/aws/test_transport_curl.py",
    "end_to_end/test_failed_runs.py",
    "crawler/test_permission_templates.py",
    "crawler/test_invalid_discovery.py",
    "models/store/test_scd2_merge_property.py",
    "recipes/test_resource_type.py",
    "reports/mart/test_sql_limits.py",
    "reports/html/test_overview_report.py",
    "reports/html/test_compliance_report.py",
    "reports/answers/test_run_diff.py",
    "reports/answers/test_key_history.py",
    "reports/rules/test_rules.py",
    "reports/rules/test_finding_lifecycle.py",
    "reports/mart/test_change_log.py",
    "reports/rules/test_cli.py",
    "reports/rules/test_rule_files.py",
    "reports/rules/testing/test_examples.py",
    "reports/access/analysis/test_stage.py",
    "reports/html/test_trends.py",
)
"""Started first: a long file that starts last would leave the other processes idle. The order is not important otherwise."""


@pytest.fixture(autouse=True)
def unchanged_process() -> Iterator[None]:
    """Remove what a command has set for its whole process: umask, log, format of lines, number of the run."""
    yield
    os.umask(UMASK)
    handlers = logging.getLogger().handlers
    if any(isinstance(handler, StandardErrorHandler) for handler in handlers):
        handlers[:] = [handler for handler in handlers if not isinstance(handler, StandardErrorHandler)]
        for name in OWN_LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET if name else logging.WARNING)
        logging.captureWarnings(capture=False)
    console.use_json(enabled=False)
    console.set_run(None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without garbage collection, which takes a quarter of the time, and exclude them from it later.

    Tests, modules and service models are a million objects that never become garbage. Scanning them again and again takes up
    to a tenth of the CPU of the tests.
    """
    from crawler.worker import relax_gc

    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        relax_gc()


def pytest_sessionfinish() -> None:
    """Let the interpreter free everything at its end: DuckDB would report leaks on standard error."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files: the slowest ones first, the rest as collected."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


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
def sqlite_template(shared_directory: Path) -> Path:
    return made_once(shared_directory / "ledger.db", lambda path: create_ledger(f"sqlite:///{path}"))


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
    """A database without tables, once on each engine."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    with postgres.database(request.getfixturevalue("postgresql_server")) as url:
        yield url


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """One AWS server per process, because the state of moto is global; each test file starts with a new organization."""
    from demo.server import AwsServer  # loading moto takes seconds: only for tests that need it

    with AwsServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all processes of a test run, for files that are expensive to create."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session", autouse=True)
def shared_files(shared_directory: Path) -> None:
    """Let helpers that are no fixtures share files, too."""
    share(shared_directory)


@pytest.fixture(scope="session")
def built_wheel(shared_directory: Path) -> Path:
    """The wheel of this checkout, built without the settings of this process."""

    def build(folder: Path) -> None:
        folder.mkdir()
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "KMSLEDGER_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            folder,
            ROOT,
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=env)

    (wheel,) = made_once(shared_directory / "wheel", build).glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def saved_organization(aws_server: AwsServer, shared_directory: Path) -> bytes:
    """The demo organization for `tests.saved_aws.restore`; the first process that needs it builds it."""
    from demo import organization
    from tests import saved_aws

    def build(path: Path) -> None:
        aws_server.reset()
        path.write_bytes(saved_aws.save(aws_server, organization.build(aws_server)))

    return made_once(shared_directory / "organization.pickle", build).read_bytes()


@pytest.fixture(scope="module")
def demo_world(aws_server: AwsServer, saved_organization: bytes) -> organization.World:
    """The demo organization, as built, in the AWS server of this process."""
    from tests import saved_aws

    return saved_aws.restore(aws_server, saved_organization)
