"""The settings of unattended runs: their deadline, and the metrics for monitors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic_core import InitErrorDetails

from models.settings.types import FilePath, Group, Unset, validation_error, whole


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
                at = "reserve" if "reserve" in data else "deadline"
                expected = (
                    f"less than nightly.deadline ({total})"
                    if at == "reserve"
                    else f"more than nightly.reserve ({reserve})"
                )
                yield validation_error((at,), expected)


class MetricsSettings(Group):
    """The file of metrics that each run writes for the node exporter of Prometheus."""

    textfile: Annotated[FilePath | None, Unset] = None

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a name that the collector ignores."""
        if data.get("textfile") and not str(data["textfile"]).endswith(".prom"):
            yield validation_error(("textfile",), "a path that ends with .prom, since the collector reads no others")
