"""Installs the other tools in virtual environments and runs them against an account."""

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
from benchmarks.peers.compare import HERE, CheckResult, checks

TIMEOUT_S = 900  # seconds for one account


@dataclass(frozen=True, slots=True)
class ToolRun:
    """The parameters of running a tool against one account."""

    account: str
    regions: tuple[str, ...]
    credentials: Mapping[str, str]
    endpoint: str
    organization: str
    known_accounts: tuple[str, ...]
    directory: Path
    """The directory for the results and the output of the tool."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: `command` returns the arguments of a run, `read` parses the results in the directory of a run."""

    name: str
    program: str
    package: str
    command: Callable[[ToolRun], list[str]]
    read: Callable[[Path], Iterable[CheckResult]]

    def environment(self, directory: Path) -> Path:
        """Create the virtual environment of the tool below `directory` if missing. Raises CalledProcessError on failure."""
        environment_dir = directory / self.name
        if not (environment_dir / "bin" / self.program).exists():
            venv.create(environment_dir, with_pip=True)
            pip = [str(environment_dir / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, "--requirement", str(HERE / f"{self.name}.txt")], check=True)
        return environment_dir

    def version(self, environment_dir: Path) -> str:
        """The installed version of the package."""
        program = f"from importlib.metadata import version; print(version({self.package!r}))"
        completed = subprocess.run(
            [str(environment_dir / "bin" / "python"), "-c", program], check=True, capture_output=True, text=True
        )
        return completed.stdout.strip()

    def run(self, environment_dir: Path, tool_run: ToolRun) -> tuple[float, int]:
        """Run it against one account. Returns seconds and exit code; -1 if it took longer than `TIMEOUT_S`."""
        tool_run.directory.mkdir(parents=True)
        arguments = [str(environment_dir / "bin" / self.program), *self.command(tool_run)]
        started = time.monotonic()
        with (tool_run.directory / "printed.txt").open("w", encoding="utf-8") as printed:
            try:
                completed = subprocess.run(
                    arguments,
                    env=_variables(tool_run, environment_dir),
                    cwd=tool_run.directory,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=TIMEOUT_S,
                    check=False,
                )
                code = completed.returncode
            except subprocess.TimeoutExpired:
                code = -1
        return time.monotonic() - started, code


def _variables(tool_run: ToolRun, environment_dir: Path) -> dict[str, str]:
    """The environment of the process: our variables without those of AWS, and the credentials of the run."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON", "VIRTUAL_"))
    }
    return {
        **inherited,
        "PATH": f"{(environment_dir / 'bin').resolve()}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tool_run.directory.resolve()),  # no AWS configuration from the home directory
        "AWS_ACCESS_KEY_ID": tool_run.credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": tool_run.credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": tool_run.credentials["SessionToken"],
        "AWS_DEFAULT_REGION": tool_run.regions[0],
        "AWS_REGION": tool_run.regions[0],
        "AWS_ENDPOINT_URL": tool_run.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _prowler(tool_run: ToolRun) -> list[str]:
    names = [check.name for check in checks() if check.tool == "prowler"]
    output = ["--output-formats", "json-ocsf", "--output-directory", "results", "--output-filename", tool_run.account]
    return ["aws", "--checks", *names, "--region", *tool_run.regions, *output, "--no-banner", "--ignore-exit-code-3"]


def _scoutsuite(tool_run: ToolRun) -> list[str]:
    services = ["kms", "s3", "rds", "secretsmanager", "elasticache", "cloudtrail"]
    report = ["--report-dir", ".", "--report-name", tool_run.account, "--force", "--no-browser"]
    return ["aws", "--services", *services, "--regions", *tool_run.regions, *report]


def _custodian(tool_run: ToolRun) -> list[str]:
    policies = tool_run.directory / "policies.yaml"
    text = Template((HERE / "custodian.yaml").read_text(encoding="utf-8"))
    filled = text.substitute(accounts=json.dumps(tool_run.known_accounts), organization=tool_run.organization)
    policies.write_text(filled, encoding="utf-8")
    regions = [argument for region in tool_run.regions for argument in ("--region", region)]
    return ["run", "--output-dir", "results", "--cache-period", "0", *regions, policies.name]


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "prowler",
            "prowler",
            "prowler",
            _prowler,
            lambda environment_dir: parsers.prowler(environment_dir / "results"),
        ),
        Tool("scoutsuite", "scout", "scoutsuite", _scoutsuite, parsers.scoutsuite),
        Tool(
            "custodian",
            "custodian",
            "c7n",
            _custodian,
            lambda environment_dir: parsers.custodian(environment_dir / "results"),
        ),
    )
}
"""All tools by name."""
