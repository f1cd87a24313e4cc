"""Sends metrics to an OpenTelemetry collector: OTLP over HTTP, as protobuf (extra `opentelemetry`).

Our own HTTP client sends the request: the exporter of the OpenTelemetry SDK does not report why it failed, and follows redirects
with the headers, which can contain secrets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from urllib.parse import urlsplit

from models.diagnosis import Check, from_error, ok
from models.settings.nightly import OtlpSettings
from reports import http_post
from reports.metrics.samples import Metric, MetricsError


def check() -> None:
    """Raise MetricsError if a library is missing."""
    try:
        import opentelemetry.exporter.otlp.proto.common.metrics_encoder
        import opentelemetry.sdk.metrics.export  # noqa: F401 - whether it is installed
    except ModuleNotFoundError as error:
        raise MetricsError(
            "metrics.otlp needs the extra `opentelemetry`: pip install 'kmsledger[opentelemetry]'"
        ) from error


def check_collector(settings: OtlpSettings) -> list[Check]:
    """For `kmsledger doctor`: connect to the collector, also with TLS, and send no request."""
    if settings.endpoint is None:
        return []
    collector = _collector(settings.endpoint)
    try:
        http_post.connect(
            settings.endpoint,
            timeout=settings.timeout,
            ca_bundle=settings.ca_bundle,
            setting="metrics.otlp.endpoint",
        )
    except http_post.NoAnswerError as error:
        return [from_error("metrics", MetricsError(f"{collector} {error}"))]
    return [ok("metrics", f"{collector} can be reached; nothing was sent")]


def send(metrics: Sequence[Metric], settings: OtlpSettings) -> None:
    """Send the metrics once, within the timeout of the settings. Raises MetricsError with cause and fix."""
    endpoint = str(settings.endpoint)
    collector = _collector(endpoint)
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    headers["content-type"] = "application/x-protobuf"
    try:
        answer = http_post.post(
            endpoint,
            encoded(metrics),
            headers,
            timeout=settings.timeout,
            ca_bundle=settings.ca_bundle,
            setting="metrics.otlp.endpoint",
        )
    except http_post.NoAnswerError as error:
        raise MetricsError(f"{collector} {error}") from error
    if 200 <= answer.status < 300:
        rejected = _rejected(answer.body)
        if rejected:
            raise MetricsError(f"{collector} rejects {rejected} of the values: its log has the reason")
        return
    # The text of the answer is left out: it can repeat a header.
    raise MetricsError(f"{collector} answers {_phrase(answer.status)}: {_advice(answer.status)}")


def encoded(metrics: Sequence[Metric]) -> bytes:
    """The request of OTLP: each metric as a gauge, its labels as attributes."""
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    release = version("kmsledger")
    gauges = [
        export.Metric(
            name=metric.name,
            description=metric.about,
            unit="",  # the name has it; a receiver that also appends the unit would change the name
            data=export.Gauge(
                [
                    export.NumberDataPoint(dict(zip(metric.labels, values, strict=True)), 0, now, number)
                    for values, number in metric.samples
                ]
            ),
        )
        for metric in metrics
    ]
    scope = export.ScopeMetrics(InstrumentationScope("kmsledger", release), gauges, "")
    # Further attributes come from OTEL_RESOURCE_ATTRIBUTES in the environment.
    resource = Resource.create({"service.name": "kmsledger", "service.version": release})
    request = encode_metrics(export.MetricsData([export.ResourceMetrics(resource, [scope], "")]))
    return request.SerializeToString()


def _collector(endpoint: str) -> str:
    return f"the collector at {urlsplit(endpoint).hostname}"


def _rejected(body: bytes) -> int:
    """The values that the collector did not take, according to its answer."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

    try:
        return ExportMetricsServiceResponse.FromString(body).partial_success.rejected_data_points
    except DecodeError:
        return 0  # a receiver that answers with a text


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _advice(status: int) -> str:
    if status in {401, 403}:
        return "check metrics.otlp.headers"
    if status == 429 or status >= 500:
        return "check the collector; the next run sends its metrics"
    if 300 <= status < 400:
        return "redirects are not followed; correct metrics.otlp.endpoint"
    return "check metrics.otlp.endpoint, whose path is usually /v1/metrics"
