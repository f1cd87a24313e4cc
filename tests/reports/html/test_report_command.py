"""`kmsledger report`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.errors import UserError
from models.settings import Settings
from reports.cli import report
from reports.html import registry
from reports.html.registry import UnknownReportError
from tests.reports.ledger_builder import only
from tests.reports.sample_ledger import PAYMENTS


@pytest.fixture
def config(settings: Settings, tmp_path: Path) -> Path:
    """A settings file for the sample organization's mart; reports are written next to it."""
    file = tmp_path / "kmsledger.yaml"
    file.write_text(f"report:\n  mart: {settings.report.mart}\n  directory: reports\n")
    return file


def test_the_paths_that_were_written_are_printed(config: Path) -> None:
    """Without a name, all reports are written to the directory of the settings."""
    done = CliRunner().invoke(report, ["--config", str(config)], catch_exceptions=False)
    assert done.exit_code == 0
    directory = config.parent / "reports"
    assert done.output.splitlines() == [
        str(directory / "kmsledger-overview-run3.html"),
        str(directory / "kmsledger-overview.html"),
        str(directory / "kmsledger-compliance-run3.html"),
        str(directory / "kmsledger-compliance.html"),
    ]
    assert all(Path(line).stat().st_size > 50_000 for line in done.output.splitlines())


def test_one_report_into_another_directory(config: Path, tmp_path: Path) -> None:
    """NAME selects a report, --output a directory, which is created."""
    done = CliRunner().invoke(
        report, ["overview", "--output", str(tmp_path / "x" / "y"), "--config", str(config)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert (tmp_path / "x" / "y" / "kmsledger-overview.html").is_file()
    assert not list((tmp_path / "x" / "y").glob("*compliance*"))


def test_reports_that_need_more_memory_are_written_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB cannot spill everything: reports that need more memory are the same, and nothing stays in the directory."""

    def written(directory: str) -> dict[str, bytes]:
        registry.write(registry.REPORTS, settings.report.mart, tmp_path / directory, settings)
        return {path.name: path.read_bytes() for path in (tmp_path / directory).iterdir()}

    usual = written("usual")
    assert "memory" not in caplog.text
    monkeypatch.setattr(registry, "working_memory", lambda *_: 1_000_000)
    assert written("limited") == usual
    assert "the reports need more memory than planned: they are written again, with more" in caplog.text


def test_a_report_about_one_account(config: Path) -> None:
    """An account is named by its ID or name; the exit code with --fail-on is about its findings."""
    arguments = ["account", "payments", "--config", str(config)]
    done = CliRunner().invoke(report, arguments, catch_exceptions=False)
    assert (done.exit_code, [Path(line).name for line in done.output.splitlines()]) == (
        0,
        [f"kmsledger-account-{PAYMENTS}-run3.html", f"kmsledger-account-{PAYMENTS}.html"],
    )
    for severity, code in (("low", 1), ("never", 0)):
        assert CliRunner().invoke(report, [*arguments, "--fail-on", severity]).exit_code == code


def test_a_missing_mart_is_made(settings: Settings, config: Path) -> None:
    """With a ledger and no mart, the mart is built first."""
    shutil.copy(settings.database.removeprefix("sqlite:///"), config.parent / "ledger.db")
    few = f"rules: {{disable: {only('key-rotation')['disable']}}}"
    config.write_text(f"database: sqlite:///ledger.db\nreport:\n  mart: fresh.duckdb\n  directory: reports\n{few}\n")
    done = CliRunner().invoke(report, ["--config", str(config)], catch_exceptions=False)
    assert done.exit_code == 0
    assert (config.parent / "fresh.duckdb").is_file()
    assert (config.parent / "reports" / "kmsledger-overview-run3.html").is_file()


def test_mistakes_are_sentences(config: Path) -> None:
    """An unknown name and a missing ledger are errors with a message, not tracebacks."""
    with pytest.raises(UnknownReportError):
        CliRunner().invoke(report, ["nonsense", "--config", str(config)], catch_exceptions=False)
    with pytest.raises(UnknownReportError, match="needs a name: `kmsledger report account ACCOUNT`"):
        CliRunner().invoke(report, ["account", "--config", str(config)], catch_exceptions=False)
    with pytest.raises(UnknownReportError, match="about the whole organization: omit 'Shop'"):
        CliRunner().invoke(report, ["overview", "Shop", "--config", str(config)], catch_exceptions=False)
    config.write_text("report:\n  mart: none.duckdb\n")
    with pytest.raises(UserError, match="run `kmsledger crawl` first"):
        CliRunner().invoke(report, ["--config", str(config)], catch_exceptions=False)
