"""The other tools: how each is installed in an environment of its own, and run against one account."""

from __future__ import annotations

import json
import os
import subprocess
import time
import venv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmarks.peers import parsers
from benchmarks.peers.compare import HERE, Word, checks

LONGEST = 900  # seconds for one account


@dataclass(frozen=True, slots=True)
class Visit:
    """One account that a tool is run against, with the knowledge that our own rules have: who belongs to us."""

    account: str
    regions: tuple[str, ...]
    credentials: Mapping[str, str]
    endpoint: str
    organization: str
    known_accounts: tuple[str, ...]
    directory: Path
    """Where the tool leaves its results, and what it printed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: `command` gives its arguments for a visit, `read` finds its words in the directory of one."""

    name: str
    program: str
    package: str
    command: Callable[[Visit], list[str]]
    read: Callable[[Path], Iterable[Word]]

    def environment(self, directory: Path) -> Path:
        """Make the tool's environment below `directory`, unless it is there. Raises CalledProcessError if that fails."""
        place = directory / self.name
        if not (place / "bin" / self.program).exists():
            venv.create(place, with_pip=True)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, "--requirement", str(HERE / f"{self.name}.txt")], check=True)
        return place

    def version(self, place: Path) -> str:
        """The version of the package that is installed there."""
        ask = f"from importlib.metadata import version; print(version({self.package!r}))"
        done = subprocess.run([str(place / "bin" / "python"), "-c", ask], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def run(self, place: Path, visit: Visit) -> tuple[float, int]:
        """Run it against one account. Returns seconds and exit code; -1 when it took longer than `LONGEST`."""
        visit.directory.mkdir(parents=True)
        arguments = [str(place / "bin" / self.program), *self.command(visit)]
        started = time.monotonic()
        with (visit.directory / "printed.txt").open("w", encoding="utf-8") as printed:
            try:
                done = subprocess.run(
                    arguments,
                    env=_variables(visit, place),
                    cwd=visit.directory,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=LONGEST,
                    check=False,
                )
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = -1
        return time.monotonic() - started, code


def _variables(visit: Visit, place: Path) -> dict[str, str]:
    """The environment of the process: our variables without any of AWS's, and the credentials of the visit."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON", "VIRTUAL_"))}
    return {
        **kept,
        "PATH": f"{(place / 'bin').resolve()}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(visit.directory.resolve()),  # no settings of AWS's own from the home directory
        "AWS_ACCESS_KEY_ID": visit.credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": visit.credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": visit.credentials["SessionToken"],
        "AWS_DEFAULT_REGION": visit.regions[0],
        "AWS_REGION": visit.regions[0],
        "AWS_ENDPOINT_URL": visit.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _prowler(visit: Visit) -> list[str]:
    names = [check.name for check in checks() if check.tool == "prowler"]
    output = ["--output-formats", "json-ocsf", "--output-directory", "results", "--output-filename", visit.account]
    return ["aws", "--checks", *names, "--region", *visit.regions, *output, "--no-banner", "--ignore-exit-code-3"]


def _scoutsuite(visit: Visit) -> list[str]:
    services = ["kms", "s3", "rds", "secretsmanager", "elasticache", "cloudtrail"]
    report = ["--report-dir", ".", "--report-name", visit.account, "--force", "--no-browser"]
    return ["aws", "--services", *services, "--regions", *visit.regions, *report]


def _custodian(visit: Visit) -> list[str]:
    policies = visit.directory / "policies.yaml"
    text = Template((HERE / "custodian.yaml").read_text(encoding="utf-8"))
    filled = text.substitute(accounts=json.dumps(visit.known_accounts), organization=visit.organization)
    policies.write_text(filled, encoding="utf-8")
    regions = [argument for region in visit.regions for argument in ("--region", region)]
    return ["run", "--output-dir", "results", "--cache-period", "0", *regions, policies.name]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("prowler", "prowler", "prowler", _prowler, lambda place: parsers.prowler(place / "results")),
        Tool("scoutsuite", "scout", "scoutsuite", _scoutsuite, parsers.scoutsuite),
        Tool("custodian", "custodian", "c7n", _custodian, lambda place: parsers.custodian(place / "results")),
    )
}
"""All tools by name."""
