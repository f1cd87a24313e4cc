"""The metrics of a benchmark, and the table of all metrics."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric. Most budgets limit ratios within one benchmark, so that they apply on any machine."""

    what: str
    value: float
    unit: str = ""
    budget: float | None = None
    """The maximum; ``None`` for informational metrics."""

    @property
    def holds(self) -> bool:
        """Whether the value is within the budget, if any."""
        return self.budget is None or self.value <= self.budget

    def cells(self) -> tuple[str, str, str, str]:
        """The metric as a row of the table."""
        budget = "" if self.budget is None else f"≤ {_number(self.budget)}"
        result = "" if self.budget is None else "ok" if self.holds else "EXCEEDED"
        return self.what, f"{_number(self.value)} {self.unit}".strip(), budget, result


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table, aligned for terminals."""
    rows = [("metric", "value", "budget", ""), *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine() -> str:
    """The hardware and software of the benchmark, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GB, {system}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
