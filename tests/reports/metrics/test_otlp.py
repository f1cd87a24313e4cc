"""The metrics of nightly runs as an OpenTelemetry collector receives them: a real server that decodes the protobuf."""

from __future__ import annotations

import logging
import socket
import sys
import time
from importlib.metadata import version
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from models import stages
from models.call_counters import OperationCounter
from models.errors import UserError
from models.settings import Settings
from models.store.crawl_lock import LockedError
from reports.metrics.nightly_metrics import check, measured
from reports.metrics.otlp import check_collector
from reports.metrics.samples import MetricsError
from tests.reports.ledger_builder import settings_of
from tests.reports.notify.http_receiver import Receiver, run_receiver

SECRET = "Bearer hunter2"
Labels = frozenset[tuple[str, str]]


def sending(settings: Settings, receiver: Receiver, *, textfile: bool = False, **values: Any) -> Settings:
    """The settings, with a collector; without the file unless requested."""
    otlp = {"endpoint": receiver.url, "headers": {"Authorization": SECRET}, **values}
    path = settings.metrics.textfile if textfile else None
    return settings_of(
        database=settings.database, report={"mart": settings.report.mart}, metrics={"textfile": path, "otlp": otlp}
    )


def decoded(body: bytes) -> tuple[dict[str, str], dict[tuple[str, Labels], float], dict[str, str]]:
    """The attributes of the resource, and the values and descriptions of the metrics of a request."""
    (sent,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (scope,) = sent.scope_metrics
    resource = {each.key: each.value.string_value for each in sent.resource.attributes}
    values = {
        (metric.name, frozenset((each.key, each.value.string_value) for each in point.attributes)): point.as_double
        for metric in scope.metrics
        for point in metric.gauge.data_points
    }
    return resource, values, {metric.name: metric.description for metric in scope.metrics}


def test_a_collector_gets_what_the_file_has(settings: Settings) -> None:
    """One request has the names, labels, descriptions and values of the file of the same run, and names the service."""
    with run_receiver() as receiver:
        both = sending(settings, receiver, textfile=True)
        with measured(both) as outcome:
            outcome.operations["kms:ListKeys"] = OperationCounter(7, 3, 1.5)
            outcome.exit_code = 3
    (request,) = receiver.requests
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["authorization"] == SECRET
    resource, values, descriptions = decoded(request.body)
    assert resource["service.name"] == "kmsledger"
    assert resource["service.version"] == version("kmsledger")
    assert both.metrics.textfile is not None
    families = list(text_string_to_metric_families(both.metrics.textfile.read_text(encoding="utf-8")))
    assert values == {
        (sample.name, frozenset(sample.labels.items())): sample.value for each in families for sample in each.samples
    }
    assert descriptions == {each.name: each.documentation for each in families}
    assert values["kmsledger_operation_throttles", frozenset({("service", "kms"), ("operation", "ListKeys")})] == 3


def test_a_collector_needs_no_prometheus_client(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra of the file, and without a file, the collector gets the metrics; a failed run sends its exit code."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with run_receiver() as receiver:
        only = sending(settings, receiver)
        check(only)
        with pytest.raises(UserError, match="no network"), measured(only):
            raise UserError("no network: repair it")
        with pytest.raises(LockedError), measured(only):
            raise LockedError("another run")
    (request,) = receiver.requests
    assert decoded(request.body)[1]["kmsledger_last_attempt_exit_code", frozenset()] == 4


def test_what_is_unknown_is_not_sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mart there is only the attempt."""
    monkeypatch.setattr(stages, "_DURATIONS", {})
    with run_receiver() as receiver, measured(sending(settings, receiver)):
        settings.report.mart.unlink()
    assert set(decoded(receiver.requests[0].body)[2]) == {
        "kmsledger_last_attempt_timestamp_seconds",
        "kmsledger_last_attempt_exit_code",
    }


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "answers 401 Unauthorized: check metrics.otlp.headers"),
        (404, "answers 404 Not Found: check metrics.otlp.endpoint, whose path is usually /v1/metrics"),
        (307, "answers 307 Temporary Redirect: redirects are not followed; correct metrics.otlp.endpoint"),
        (500, "answers 500 Internal Server Error: check the collector; the next run sends its metrics"),
        (503, "answers 503 Service Unavailable: check the collector; the next run sends its metrics"),
        (0, "cannot be reached"),
    ],
)
def test_a_refusal_is_one_sentence(
    settings: Settings, status: int, message: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The status is reported with its fix after one request, without the headers, even if the answer repeats them."""
    caplog.set_level(logging.DEBUG)
    script = Receiver(answers=[status], body=SECRET.encode(), headers={"location": "http://127.0.0.1:1/"})
    with run_receiver(script) as receiver, measured(sending(settings, receiver)) as outcome:
        outcome.exit_code = 0
    assert len(receiver.requests) == 1
    assert outcome.exit_code == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kmsledger: the metrics could not be sent: the collector at 127.0.0.1 {message}")
    assert "hunter2" not in line + caplog.text


def test_a_collector_that_is_down_does_not_keep_the_file_from_being_written(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused connection is one sentence with the setting to check, and the file is written."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1/metrics"
        both = sending(settings, Receiver(), textfile=True, endpoint=url)
        with measured(both):
            pass
    assert both.metrics.textfile is not None
    assert both.metrics.textfile.exists()
    assert capsys.readouterr().err == (
        "kmsledger: the metrics could not be sent: the collector at 127.0.0.1 refuses the connection: "
        "check metrics.otlp.endpoint, whether it is running, and firewalls\n"
    )


def test_a_file_that_cannot_be_written_does_not_keep_the_metrics_from_the_collector(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each output fails on its own."""
    assert settings.metrics.textfile is not None
    missing = settings.metrics.textfile.parent / "no" / "kmsledger.prom"
    with run_receiver() as receiver:
        sender = sending(settings, receiver)
        with measured(sender.model_copy(update={"metrics": sender.metrics.model_copy(update={"textfile": missing})})):
            pass
    assert len(receiver.requests) == 1
    assert "the metrics could not be written" in capsys.readouterr().err


@pytest.mark.parametrize("status", [-1, 200])
def test_a_slow_collector_is_given_up(settings: Settings, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an answer within metrics.otlp.timeout, the run ends with a sentence; a status counts though its text never ends."""
    with run_receiver(Receiver(answers=[status], endless=True)) as receiver:
        slow = sending(settings, receiver, timeout=0.3)
        started = time.monotonic()
        with measured(slow):
            pass
        assert time.monotonic() - started < 4
    expected = "did not answer within 0.3 seconds: check metrics.otlp.endpoint and firewalls" if status < 0 else ""
    assert expected in capsys.readouterr().err
    assert len(receiver.requests) == 1


def test_values_that_the_collector_rejects_are_reported(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer of success that rejects some values is reported with their number."""
    partial = ExportMetricsPartialSuccess(rejected_data_points=3, error_message="too many series")
    answer = ExportMetricsServiceResponse(partial_success=partial).SerializeToString()
    with run_receiver(Receiver(body=answer)) as receiver, measured(sending(settings, receiver)):
        pass
    assert "rejects 3 of the values: its log has the reason" in capsys.readouterr().err


def test_a_missing_extra_is_reported_before_the_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing library is named with its extra, and only if its output is configured."""
    both = sending(settings, Receiver(url="http://127.0.0.1:1/v1/metrics"), textfile=True)
    check(both)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics.export", None)
    check(settings)
    with pytest.raises(MetricsError, match=r"pip install 'kmsledger\[opentelemetry\]'"):
        check(both)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UserError, match=r"(?s)kmsledger\[metrics\].*kmsledger\[opentelemetry\]"):
        check(both)


def test_doctor_connects_to_the_collector(settings: Settings) -> None:
    """`kmsledger doctor` connects and sends nothing; without a collector nothing is checked, and a closed port is named."""
    assert check_collector(settings.metrics.otlp) == []
    with run_receiver() as receiver:
        otlp = sending(settings, receiver).metrics.otlp
        [check] = check_collector(otlp)
        assert receiver.requests == []
    assert (check.status, check.message) == ("ok", "the collector at 127.0.0.1 can be reached; nothing was sent")
    [check] = check_collector(otlp)
    assert (check.status, check.message) == ("problem", "the collector at 127.0.0.1 refuses the connection")
    assert check.fix.startswith("check metrics.otlp.endpoint")
