"""Whole commands, as users run them: CPU of a small nightly run and of questions, the report of 8,000 keys, memory for 32,000."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fake_aws.client import ROOT, FakeAws
from benchmarks.fake_aws.presets import preset
from benchmarks.metrics import Figure

QUESTIONS = {
    ("--help",): 0.2,
    ("sql", "select 1"): 0.4,
    ("findings",): 0.6,
    ("who-can", "decrypt", "{key}"): 0.8,
}
"""Commands with their budget in CPU seconds."""
_ACCEPTED = frozenset({0, 1, 3})
"""Exit codes: done, findings, partial coverage."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of a command and its processes, and the peak memory of the largest process in MB."""

    cpu: float
    peak: float
    output: str


@dataclass(frozen=True, slots=True)
class Installation:
    """A directory with settings for an organization, in which commands run."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> Cost:
        """Run a command. Raises RuntimeError with its messages if it fails."""
        output = self.folder / "output"
        with output.open("wb") as file:
            command = [sys.executable, "-m", "kmsledger", *arguments]
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        text = output.read_text(encoding="utf-8")
        if process.returncode not in _ACCEPTED:
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {text[-2000:]}")
        return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


@contextmanager
def installation(*, accounts: int, keys: int, **crawl: Any) -> Iterator[Installation]:
    """An organization with so many keys in each of the four regions of each account, and settings to crawl it."""
    parameters = preset(
        "tiny", accounts=accounts, keys_per_account_region=keys, resources=0.3, most_grants=20, adversarial=False
    )
    with tempfile.TemporaryDirectory(prefix="kmsledger-benchmark-") as folder, FakeAws(parameters) as fake:
        settings = {
            "database": "sqlite:///ledger.db",
            "aws": {"endpoint_url": fake.url},
            "role": {"external_id": parameters.external_id},
            "crawl": {"quota_share_percent": 100, **crawl},
            "rules": {"fail_on": "never"},
        }
        Path(folder, "kmsledger.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        environment = {**os.environ, **fake.environment(), "PYTHONPATH": str(ROOT)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as installed: byte code exists
        yield Installation(Path(folder), environment)


def measure(*, quick: bool = False) -> list[Figure]:
    """Run the commands in three organizations."""
    sizes = {"nightly run": (2, 3), "report": (20, 125), "memory": (80, 126)}
    if quick:
        sizes = dict.fromkeys(sizes, (1, 1))
    return [
        *_small(*sizes["nightly run"], checked=not quick),
        *_report(*sizes["report"], checked=not quick),
        *_memory(*sizes["memory"], checked=not quick),
    ]


def _small(accounts: int, keys: int, *, checked: bool) -> list[Figure]:
    """A third run, when every file exists, and questions about it; each question is asked twice."""
    figures = []
    with installation(accounts=accounts, keys=keys) as kmsledger:
        first, _, third = (kmsledger.run("nightly") for _ in range(3))
        of = _keys(kmsledger, "customer")
        figures.append(Figure(f"nightly run of {of}, the first, CPU", first.cpu, "s"))
        figures.append(Figure(f"nightly run of {of}, CPU", third.cpu, "s", 5 if checked else None))
        query = "select key_arn from keys where manager = 'CUSTOMER' order by key_arn limit 1"
        key = json.loads(kmsledger.run("sql", "--format", "json", query).output)[0]["key_arn"]
        for arguments, budget in QUESTIONS.items():
            command = [argument.format(key=key) for argument in arguments]
            kmsledger.run(*command)
            cost = kmsledger.run(*command)
            figures.append(Figure(f"{' '.join(arguments[:2])}, CPU", cost.cpu, "s", budget if checked else None))
    return figures


def _report(accounts: int, keys: int, *, checked: bool) -> list[Figure]:
    with installation(accounts=accounts, keys=keys, last_use={"enabled": False}) as kmsledger:
        kmsledger.run("crawl")
        cost = kmsledger.run("report")
        of = f"{_keys(kmsledger, 'all')}, {_count(kmsledger, 'findings')} findings"
        reports = sorted(kmsledger.folder.glob("reports/*-run1.html"))
        return [
            Figure(f"reports of {of}, CPU", cost.cpu, "s", 5 if checked else None),
            *(
                Figure(f"{path.stem}, size", path.stat().st_size / 1e6, "MB", 5 if checked else None)
                for path in reports
            ),
        ]


def _memory(accounts: int, keys: int, *, checked: bool) -> list[Figure]:
    with installation(accounts=accounts, keys=keys, last_use={"enabled": False}) as kmsledger:
        cost = kmsledger.run("nightly")
        of = _keys(kmsledger, "all")
        return [
            Figure(f"nightly run of {of}, largest process", cost.peak, "MB", 500 if checked else None),
            Figure(f"nightly run of {of}, CPU", cost.cpu, "s"),
        ]


def _keys(kmsledger: Installation, which: str) -> str:
    where = " where manager = 'CUSTOMER'" if which == "customer" else ""
    return f"{_count(kmsledger, f'keys{where}')} {'customer ' if where else ''}keys"


def _count(kmsledger: Installation, relation: str) -> int:
    rows = json.loads(kmsledger.run("sql", "--format", "json", f"select count(*) as n from {relation}").output)
    return int(rows[0]["n"])
