"""``python -m benchmarks.peers``: what other tools find in the demo's organization, beside what our rules find there.

All look at the same server with the same role. Ends with 1 where a difference is not explained (see differences.yaml).
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
from benchmarks.peers.runners import TOOLS, Tool, Visit
from demo.__main__ import SUCCESS_CODES, environment, write_settings
from demo.organization import EXTERNAL_ID, World, apply_permanent_faults, build
from demo.server import AwsServer

MART, FIGURES = "kmsledger.duckdb", "figures.json"


def main() -> int:
    """Run the tools, or read what an earlier run kept, and print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--tools", default=",".join(TOOLS), help="which, joined by commas (all by default)")
    parser.add_argument("--accounts", help="names of the demo's accounts, joined by commas (all that can be entered)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the results there; it must be new or empty")
    parser.add_argument("--again", type=Path, metavar="DIR", help="run nothing: compare what was kept there")
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="DIR",
        default=Path("build/peers"),
        help="where the tools are installed, each in an environment of its own (default: %(default)s)",
    )
    options = parser.parse_args()
    names = options.tools.split(",")
    if unknown := set(names) - set(TOOLS):
        parser.error(f"there is no tool {', '.join(sorted(unknown))}")
    tools = [TOOLS[name] for name in names]
    if options.again:
        return report(options.again, tools)
    wanted = options.accounts.split(",") if options.accounts else None
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        if any(options.keep.iterdir()):
            parser.error(f"{options.keep} is not empty")
        measure(options.keep.resolve(), tools, options.environments.resolve(), wanted)
        return report(options.keep, tools)
    with tempfile.TemporaryDirectory() as temporary:
        measure(Path(temporary), tools, options.environments.resolve(), wanted)
        return report(Path(temporary), tools)


def measure(directory: Path, tools: Sequence[Tool], environments: Path, wanted: Sequence[str] | None) -> None:
    """Build the organization, crawl it, and run every tool against its accounts; all results stay in `directory`."""
    places = {tool.name: tool.environment(environments) for tool in tools}
    figures: dict[str, dict[str, float | str]] = {}
    with AwsServer() as aws:
        say("building the organization")
        world = build(aws)
        apply_permanent_faults(aws, world)
        settings = write_settings(directory, aws.url, world, mail_port=25)
        say("kmsledger crawl")
        mark, started = aws.mark(), time.monotonic()
        command = [str(Path(sys.executable).with_name("kmsledger")), "crawl", "--config", str(settings)]
        code = subprocess.run(command, env=environment(aws, EXTERNAL_ID), check=False).returncode
        if code not in SUCCESS_CODES:
            sys.exit(f"kmsledger crawl ended with {code}")
        crawled = {"seconds": time.monotonic() - started, "accounts": len(world.readable)}
        figures["kmsledger"] = {**crawled, **_calls(aws, mark)}
        known = _known_accounts(directory / MART, world)
        for tool in tools:
            total: dict[str, float] = {}
            for name, account in world.readable.items():
                if wanted is None or name in wanted:
                    visit = _visit(aws, world, account, known, directory / tool.name / account)
                    mark = aws.mark()
                    seconds, code = tool.run(places[tool.name], visit)
                    calls = _calls(aws, mark)
                    for what, number in {"seconds": seconds, "accounts": 1, **calls}.items():
                        total[what] = total.get(what, 0) + number
                    say(f"{tool.name} in {name}: {seconds:.0f} s, {calls['calls']} calls, exit code {code}")
            figures[tool.name] = {**total, "version": tool.version(places[tool.name])}
    (directory / FIGURES).write_text(json.dumps(figures, indent=1), encoding="utf-8")


def report(directory: Path, tools: Sequence[Tool]) -> int:
    """Print figures, the table of agreement and the differences. Returns 1 where one of these is not explained."""
    figures = json.loads((directory / FIGURES).read_text(encoding="utf-8"))
    print(
        f"\n{machine()}\n\n| tool | version | accounts | seconds | calls | refused | not in moto |\n|---|---|{'---:|' * 5}"
    )
    for name, each in figures.items():
        numbers = " | ".join(f"{each.get(what, 0):,.0f}" for what in ("seconds", "calls", "refused", "missing"))
        print(f"| {name} | {each.get('version', '')} | {each['accounts']:.0f} | {numbers} |")
    differences: list[Difference] = []
    rows = []
    for tool in tools:
        accounts = sorted(place.name for place in (directory / tool.name).iterdir())
        words = [word for account in accounts for word in tool.read(directory / tool.name / account)]
        findings = _findings(directory / MART, accounts)
        for check in checks():
            if check.tool == tool.name:
                counts, found = compare(check, words, findings)
                rows.append((check, counts))
                differences += found
    print(f"\n{table(rows)}\n{listing(differences)}")
    return int(any(kind_of(difference) is None for difference in differences))


def say(text: str) -> None:
    """A line on what is going on."""
    print(f"== {text}", flush=True)


def _visit(aws: AwsServer, world: World, account: str, known: tuple[str, ...], directory: Path) -> Visit:
    sts = aws.session().client("sts")
    role = sts.assume_role(RoleArn=world.role_arn(account), RoleSessionName="comparison", ExternalId=world.external_id)
    return Visit(account, world.regions, role["Credentials"], aws.url, world.organization, known, directory)


def _known_accounts(mart: Path, world: World) -> tuple[str, ...]:
    """The accounts of the organization and of the known parties, as our own rules know them."""
    query = "SELECT DISTINCT principal_account FROM key_principals WHERE party = 'known_party'"
    with duckdb.connect(mart, read_only=True) as connection:
        parties = [str(row[0]) for row in connection.execute(query).fetchall()]
    return tuple(sorted({*world.accounts.values(), *parties}))


def _findings(mart: Path, accounts: Sequence[str]) -> list[Finding]:
    query = "SELECT rule_id, resource_arn, verdict, reason FROM findings WHERE list_contains($accounts, account_id)"
    with duckdb.connect(mart, read_only=True) as connection:
        return [Finding(*row) for row in connection.execute(query, {"accounts": list(accounts)}).fetchall()]


def _calls(aws: AwsServer, mark: int) -> dict[str, int]:
    """Calls since the mark; `refused` by what is injected, `missing` those that moto does not have."""
    calls = aws.calls_since(mark)
    outcomes = Counter(call.outcome for call in calls)
    return {
        "calls": len(calls),
        "refused": outcomes["injected"],
        "missing": outcomes["missing"] + outcomes["crashed"],
    }


if __name__ == "__main__":
    sys.exit(main())
