"""The settings of unattended runs: their deadline, their coverage, and the metrics for monitors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import InitErrorDetails

from models.settings.types import (
    FilePath,
    Group,
    Unset,
    Url,
    invalid,
    matching,
    seconds,
    validation_error,
    whole,
)


class NightlySettings(Group):
    """How long `kmsledger nightly` takes at most, in seconds.

    The crawl ends ``reserve`` seconds before the deadline; accounts and regions that it did not read then are gaps.
    """

    deadline: Annotated[int, whole(10, 604_800, "seconds")] = 72_000
    reserve: Annotated[int, whole(5, 604_800, "seconds")] = 3600

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a reserve that leaves no time for the crawl."""
        values = [data.get(name, cls.model_fields[name].default) for name in ("deadline", "reserve")]
        if all(isinstance(value, int | str) and str(value).isdecimal() for value in values):
            total, reserve = map(int, values)
            if reserve >= total:
                if "reserve" in data:
                    yield validation_error(("reserve",), f"less than nightly.deadline ({total})")
                else:
                    yield validation_error(("deadline",), f"more than nightly.reserve ({reserve})")


class CoverageSettings(Group):
    """When missing data is a failure, and when it is tolerated.

    A run that read less than `min_percent` of the account-regions completely has failed. Gaps of an account-region are tolerated
    for `max_consecutive_gaps` runs in a row.
    """

    min_percent: Annotated[int, whole(0, 100, "percent")] = 0
    max_consecutive_gaps: Annotated[int, whole(0, 1000, "runs")] = 0


_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding", "host", "expect"})


def _header_names(value: Any) -> Any:
    # For the whole mapping, because an error about a key would show it: a misplaced colon can make a secret the key.
    if isinstance(value, Mapping):
        names = [str(name).lower() for name in value]
        if not all(map(_HEADER.fullmatch, names)) or _OWN_HEADERS.intersection(names):
            raise invalid("names of HTTP headers, without those that describe the body")
        if len(set(names)) < len(names):
            raise invalid("each header once")
    return value


def _otlp_url(value: Any) -> Any:
    if value is None or (value.isascii() and urlsplit(value).path.strip("/")):
        return value
    raise invalid("a URL in ASCII with the path of the metrics, such as http://127.0.0.1:4318/v1/metrics")


HeaderValue = Annotated[
    SecretStr, matching(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", "a text on one line in ASCII that is not empty")
]


class OtlpSettings(Group):
    """A collector of OpenTelemetry that gets the metrics. `timeout` is in seconds; `headers` can contain secrets."""

    endpoint: Annotated[Url | None, Unset, AfterValidator(_otlp_url)] = None
    headers: Annotated[Mapping[str, HeaderValue], BeforeValidator(_header_names)] = Field(default_factory=dict)
    ca_bundle: Annotated[FilePath | None, Unset] = None
    timeout: Annotated[float, seconds(60)] = 10

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield headers, which can be secrets, that another host would get without TLS."""
        local = {"localhost", "127.0.0.1", "::1"}
        try:
            parts = urlsplit(str(data.get("endpoint") or ""))
            unencrypted = parts.scheme == "http" and parts.hostname not in local
        except ValueError:
            return  # reported as an invalid URL
        if data.get("headers") and unencrypted:
            yield validation_error(("endpoint",), "an https:// URL, since headers are set; http:// is for this host")


class MetricsSettings(Group):
    """Where each run writes and sends its metrics: a file for the node exporter of Prometheus, and a collector."""

    textfile: Annotated[FilePath | None, Unset] = None
    otlp: OtlpSettings = Field(default_factory=dict, validate_default=True)

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a name that the collector ignores."""
        if data.get("textfile") and not str(data["textfile"]).endswith(".prom"):
            yield validation_error(("textfile",), "a path that ends with .prom, since the collector reads no others")
