"""Start-up: a command loads only the packages that it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.settings import Settings

ROOT = Path(__file__).parents[2]
HEAVY = {
    "alembic",
    "mako",
    "sqlalchemy",
    "boto3",
    "botocore",
    "pycurl",
    "jinja2",
    "rich",
    "duckdb",
    "pydantic",
    "opentelemetry",
}
PROGRAM = """
import os, sys
from models import cli_main
from kmsledger import cli
sys.argv[0] = "kmsledger"
heavy = sys.argv.pop(1).split(",")
code = cli_main._exit_code(lambda: cli(standalone_mode=False))
print("loaded", *sorted(set(heavy) & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
READERS = {
    "help": (["--help"], set()),
    "version": (["--version"], set()),
    "sql": (["sql", "SELECT 1"], {"pydantic"}),
    "cookbook": (["cookbook", "keys-by-type"], {"pydantic"}),
    "list of the cookbook": (["cookbook"], set()),
    "findings": (["findings"], {"pydantic", "duckdb"}),
    "export": (["export", "findings", "--format", "ocsf"], {"pydantic", "duckdb"}),
    "evidence": (["export", "evidence", "--framework", "soc-2"], {"pydantic", "duckdb"}),
    "who-can": (["who-can", "decrypt", "alias/payments"], {"pydantic", "duckdb"}),
    "what-can": (["what-can", "111122223333"], {"pydantic", "duckdb"}),
    "vendors": (["vendors"], {"pydantic", "duckdb"}),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_the_mart_loads_little(name: str, sample_settings: Settings, tmp_path: Path) -> None:
    """Commands that only read the mart need neither the ledger's database packages nor those of the crawler and the reports.

    sql and cookbook load DuckDB in the process of the query only.
    """
    (tmp_path / "kmsledger.yaml").write_text(f"report:\n  mart: {sample_settings.report.mart}\n")
    arguments, allowed = READERS[name]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode in {0, 3}, done.stderr
    assert set(done.stderr.splitlines()[-1].split()[1:]) == allowed


def test_a_crawl_of_a_current_ledger_loads_no_migrations(sample_settings: Settings) -> None:
    """A ledger with the schema of this version is opened without Alembic and its templates."""
    program = (
        "import sys; import crawler.crawl; from models.store.engine import connect, upgrade\n"
        "upgrade(connect(sys.argv[1])); print(*sorted({'alembic', 'mako', 'sqlalchemy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, sample_settings.database]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "sqlalchemy\n"
