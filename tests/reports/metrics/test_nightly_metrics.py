"""The metrics of nightly runs: what the textfile collector reads, as the client library parses it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models import stages
from models.call_counters import OperationCounter
from models.errors import UserError
from models.settings import Settings, SettingsError, load
from models.store.crawl_lock import LockedError
from reports.mart.connection import connect as connect_mart
from reports.metrics.nightly_metrics import check, measured
from reports.metrics.samples import MetricsError
from reports.pipeline import refresh
from tests.reports.ledger_builder import LedgerBuilder, settings_of
from tests.reports.metrics.conftest import IRELAND, LOCKED, SHOP, settings_in

Samples = dict[tuple[str, tuple[str, ...]], float]


def read(settings: Settings) -> Samples:
    """The samples of the file by name and values of labels."""
    assert settings.metrics.textfile is not None
    text = settings.metrics.textfile.read_text(encoding="utf-8")
    return {
        (
            sample.name.removeprefix("kmsledger_"),
            tuple(sample.labels[name] for name in sorted(sample.labels, reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_run_is_measured(settings: Settings) -> None:
    """Coverage, findings by severity, and calls by account, by region and by operation are those of the run and its mart."""
    with measured(settings) as outcome:
        outcome.operations["kms:ListKeys"] = OperationCounter(7, 3, 1.5)
        outcome.exit_code = 3
    found = read(settings)
    assert found["last_attempt_exit_code", ()] == 3
    assert found["last_good_run_id", ()] == 1
    assert found["coverage_ratio", ()] == pytest.approx(2 / 3)
    assert found["account_regions", ("partial",)] == 1
    assert (found["account_calls", (SHOP,)], found["account_calls", (LOCKED,)]) == (20, 10)
    assert (found["region_retries", (IRELAND,)], found["region_gaps", (IRELAND,)]) == (4, 1)
    assert found["operation_gaps", ("kms", "ListGrants")] == 1
    assert [found[f"operation_{name}", ("kms", "ListKeys")] for name in ("calls", "throttles", "seconds")] == [
        7,
        3,
        1.5,
    ]
    with connect_mart(settings.report.mart) as duck:
        rows = duck.execute("SELECT severity, count(*) FROM findings WHERE status = 'fail' GROUP BY 1").fetchall()
    assert rows
    assert {key[1][0]: value for key, value in found.items() if key[0] == "open_findings" and value} == dict(rows)


def test_labels_are_never_combined(settings: Settings) -> None:
    """No metric has an account and a region or an operation: the number of series is a sum, not a product."""
    with measured(settings):
        pass
    assert settings.metrics.textfile is not None
    text = settings.metrics.textfile.read_text(encoding="utf-8")
    labels = {
        tuple(sorted(sample.labels, reverse=True))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert labels <= {
        (),
        ("stage",),
        ("outcome",),
        ("severity",),
        ("account_id",),
        ("region",),
        ("service", "operation"),
    }


def test_a_failed_run_keeps_the_time_of_the_last_good_one(settings: Settings) -> None:
    """After a failure, the attempt is new and the last good run is the old one; a run that another excludes writes nothing."""
    with measured(settings):
        pass
    good = read(settings)
    with pytest.raises(UserError), measured(settings):
        raise UserError("no network: repair it")
    failed = read(settings)
    name = ("last_good_run_timestamp_seconds", ())
    assert failed[name] == good[name]
    assert failed["last_attempt_exit_code", ()] == 4
    assert settings.metrics.textfile is not None
    settings.metrics.textfile.unlink()
    with pytest.raises(LockedError), measured(settings):
        raise LockedError("another run")
    assert not settings.metrics.textfile.exists()


def test_what_is_unknown_has_no_series(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mart there is only the attempt: no coverage of 0, and no zero findings."""
    monkeypatch.setattr(stages, "_DURATIONS", {})
    settings.report.mart.unlink()
    with pytest.raises(UserError), measured(settings):
        raise UserError("no network: repair it")
    assert {name for name, _ in read(settings)} == {"last_attempt_timestamp_seconds", "last_attempt_exit_code"}


def test_a_coverage_that_is_unknown_is_not_zero(tmp_path: Path) -> None:
    """A run without account-regions has no ratio of those that were read: neither 0 nor 1."""
    world = LedgerBuilder(settings_in(tmp_path).database)
    world.crawl()
    refresh(settings_in(tmp_path))
    with measured(settings_in(tmp_path)):
        pass
    names = {name for name, _ in read(settings_in(tmp_path))}
    assert "last_good_run_id" in names
    assert "coverage_ratio" not in names


def test_the_file_is_replaced_and_readable_for_the_node_exporter(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file appears complete, with mode 0644; a directory that cannot be written is one sentence and no failure."""
    with measured(settings):
        pass
    path = settings.metrics.textfile
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(found.name for found in path.parent.glob("*prom*")) == ["kmsledger.prom"]
    missing = settings_of(
        database=settings.database,
        report={"mart": settings.report.mart},
        metrics={"textfile": path.parent / "no" / "kmsledger.prom"},
    )
    with measured(missing):
        pass
    assert "the metrics could not be written" in capsys.readouterr().err


def test_the_settings_of_the_metrics_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the collector ignores is an error of the settings, a missing library one before the crawl."""
    path = tmp_path / "kmsledger.yaml"
    path.write_text("metrics: {textfile: kmsledger.txt}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ends with \.prom"):
        load(path)
    path.write_text("metrics: {textfile: kmsledger.prom}\n", encoding="utf-8")
    check(load(path))
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(MetricsError, match=r"pip install 'kmsledger\[metrics\]'"):
        check(load(path))
