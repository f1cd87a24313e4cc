"""``python -m benchmarks.peers``: compares the results of other tools with the rules of kmsledger on the demo organization.

All tools use the same server and role. Exits with 1 if a difference is not explained (see differences.yaml).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.metrics import machine
from benchmarks.peers.compare import Difference, Finding, checks, compare, kind_of, listing, table
from benchmarks.peers.runners import TOOLS, Tool, ToolRun
from demo.__main__ import SUCCESS_CODES, environment, write_settings
from demo.organization import EXTERNAL_ID, World, apply_permanent_faults, build
from demo.server import AwsServer
from models.settings import load
from reports.mart.connection import connect
from reports.rules.loader import load_rules
from reports.rules.runner import population

MART, METRICS = "kmsledger.duckdb", "figures.json"


def main() -> int:
    """Run the tools, or read the results of an earlier run, and print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--tools", default=",".join(TOOLS), help="comma-separated tools (default: all)")
    parser.add_argument("--accounts", help="comma-separated names of demo accounts (default: all readable accounts)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the results in this new or empty directory")
    parser.add_argument("--again", type=Path, metavar="DIR", help="run no tools: compare the results in this directory")
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="DIR",
        default=Path("build/peers"),
        help="directory of the virtual environments of the tools (default: %(default)s)",
    )
    options = parser.parse_args()
    names = options.tools.split(",")
    if unknown := set(names) - set(TOOLS):
        parser.error(f"unknown tool: {', '.join(sorted(unknown))}")
    tools = [TOOLS[name] for name in names]
    if options.again:
        return report(options.again, tools)
    account_names = options.accounts.split(",") if options.accounts else None
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        if any(options.keep.iterdir()):
            parser.error(f"{options.keep} is not empty")
        measure(options.keep.resolve(), tools, options.environments.resolve(), account_names)
        return report(options.keep, tools)
    with tempfile.TemporaryDirectory() as temporary:
        measure(Path(temporary), tools, options.environments.resolve(), account_names)
        return report(Path(temporary), tools)


def measure(directory: Path, tools: Sequence[Tool], environments: Path, account_names: Sequence[str] | None) -> None:
    """Build the organization, crawl it, and run every tool against its accounts; writes all results to `directory`."""
    environments_by_tool = {tool.name: tool.environment(environments) for tool in tools}
    metrics: dict[str, dict[str, float | str]] = {}
    with AwsServer() as aws:
        print_step("building the organization")
        world = build(aws)
        apply_permanent_faults(aws, world)
        settings = write_settings(directory, aws.url, world, mail_port=25)
        print_step("kmsledger crawl")
        mark, started = aws.mark(), time.monotonic()
        command = [str(Path(sys.executable).with_name("kmsledger")), "crawl", "--config", str(settings)]
        code = subprocess.run(command, env=environment(aws, EXTERNAL_ID), check=False).returncode
        if code not in SUCCESS_CODES:
            sys.exit(f"kmsledger crawl ended with {code}")
        crawled = {"seconds": time.monotonic() - started, "accounts": len(world.readable)}
        metrics["kmsledger"] = {**crawled, **_calls(aws, mark)}
        known_accounts = _known_accounts(directory / MART, world)
        for tool in tools:
            total: dict[str, float] = {}
            for name, account in world.readable.items():
                if account_names is None or name in account_names:
                    visit = _assume(aws, world, account, known_accounts, directory / tool.name / account)
                    mark = aws.mark()
                    seconds, code = tool.run(environments_by_tool[tool.name], visit)
                    calls = _calls(aws, mark)
                    for what, number in {"seconds": seconds, "accounts": 1, **calls}.items():
                        total[what] = total.get(what, 0) + number
                    print_step(f"{tool.name} in {name}: {seconds:.0f} s, {calls['calls']} calls, exit code {code}")
            metrics[tool.name] = {**total, "version": tool.version(environments_by_tool[tool.name])}
    (directory / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")


def report(directory: Path, tools: Sequence[Tool]) -> int:
    """Print metrics, the agreement table and the differences. Returns 1 if a difference is not explained."""
    metrics = json.loads((directory / METRICS).read_text(encoding="utf-8"))
    print(
        f"\n{machine()}\n\n| tool | version | accounts | seconds | calls | denied | not in moto |\n|---|---|{'---:|' * 5}"
    )
    for name, values in metrics.items():
        numbers = " | ".join(f"{values.get(what, 0):,.0f}" for what in ("seconds", "calls", "denied", "missing"))
        print(f"| {name} | {values.get('version', '')} | {values['accounts']:.0f} | {numbers} |")
    differences: list[Difference] = []
    rows = []
    for tool in tools:
        accounts = sorted(place.name for place in (directory / tool.name).iterdir())
        results = [word for account in accounts for word in tool.read(directory / tool.name / account)]
        findings = _findings(directory, accounts)
        for check in checks():
            if check.tool == tool.name:
                counts, tool_differences = compare(check, results, findings)
                rows.append((check, counts))
                differences += tool_differences
    print(f"\n{table(rows)}\n{listing(differences)}")
    return int(any(kind_of(difference) is None for difference in differences))


def print_step(text: str) -> None:
    """Print a progress line."""
    print(f"== {text}", flush=True)


def _assume(aws: AwsServer, world: World, account: str, known_accounts: tuple[str, ...], directory: Path) -> ToolRun:
    sts = aws.session().client("sts")
    role = sts.assume_role(RoleArn=world.role_arn(account), RoleSessionName="comparison", ExternalId=world.external_id)
    return ToolRun(account, world.regions, role["Credentials"], aws.url, world.organization, known_accounts, directory)


def _known_accounts(mart: Path, world: World) -> tuple[str, ...]:
    """The accounts of the organization and of the known parties, as the rules of kmsledger know them."""
    query = "SELECT DISTINCT principal_account FROM key_principals WHERE party = 'known_party'"
    with duckdb.connect(mart, read_only=True) as connection:
        parties = [str(row[0]) for row in connection.execute(query).fetchall()]
    return tuple(sorted({*world.accounts.values(), *parties}))


def _findings(directory: Path, accounts: Sequence[str]) -> list[Finding]:
    """The result of every rule for every resource of the accounts, passes included."""
    rules = load_rules(load(directory / "kmsledger.yaml"))
    with connect(directory / MART) as mart:
        rows = [(rule.rule_id, row) for rule in rules for row in population(mart, rule, accounts=accounts)]
    return [Finding(rule_id, arn, status, reason) for rule_id, (arn, _, _, _, status, reason) in rows]


def _calls(aws: AwsServer, mark: int) -> dict[str, int]:
    """Calls since the mark; `denied` by injected faults, `missing` in moto."""
    calls = aws.calls_since(mark)
    outcomes = Counter(call.outcome for call in calls)
    return {
        "calls": len(calls),
        "denied": outcomes["injected"],
        "missing": outcomes["missing"] + outcomes["crashed"],
    }


if __name__ == "__main__":
    sys.exit(main())
