"""`make demo`: crawls the organization of a fictional company twice, then writes the report and sends the mail.

All AWS calls go over HTTP to a local server. kmsledger runs as the ordinary command with an ordinary
settings file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from demo import certificates, second_run_changes, vendor_failures
from demo.organization import EXTERNAL_ID, World, apply_permanent_faults, build
from demo.server import AwsServer
from demo.smtp import MailServer

OUTPUT = Path("demo-output")
USER, PASSWORD = "kmsledger", "demo-password"
SUCCESS_CODES = {0, 1, 3}
"""Done, findings, gaps: the demo organization has findings and gaps by design."""


def main() -> None:
    """Run the demo in ./demo-output and print where the results are."""
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    files = certificates.create(OUTPUT / "tls")
    mail = MailServer(files, user=USER, password=PASSWORD, directory=OUTPUT / "mail")
    with AwsServer() as aws, mail:
        print_step("building the organization of Northwind Trading through the AWS API")
        world = build(aws)
        apply_permanent_faults(aws, world)
        settings = write_settings(OUTPUT, aws.url, world, mail.port)
        print_step(f"{len(world.accounts)} accounts, {len(world.regions)} regions; settings: {settings}")
        print_step("first run: kmsledger crawl")
        run(aws, "crawl", "--config", str(settings))
        print_step("between the runs, eight changes happen:")
        for message in second_run_changes.change(aws, world):
            print(f"   - {message}")
        print_step("second run: kmsledger nightly")
        run(aws, "nightly", "--config", str(settings))
    print_summary(time.monotonic() - started, settings)


def write_settings(directory: Path, url: str, world: World, mail_port: int) -> Path:
    """Write the settings file of the demo organization and return its path.

    The secrets come from environment variables. They are fictional and have defaults, so that the commands which the
    demo suggests work in any shell.
    """
    tag, value = world.tier_tag
    settings = {
        "database": "sqlite:///ledger.db",
        "aws": {"region": "us-east-1", "endpoint_url": url},
        "regions": {"include": list(world.regions)},
        "role": {"name": world.role_name, "external_id": f"${{KMSLEDGER_EXTERNAL_ID:-{EXTERNAL_ID}}}"},
        # No production workload shares the quotas of the demo accounts.
        "crawl": {"quota_share_percent": 100, "iam": True},
        "rules": {"parameters": {"database-tier-key": {"tag": tag, "value": value}}},
        "owners": [
            {"tag": "Owner"},
            {"account": [world.accounts["payments"]], "owner": "payments"},
            {"ou": "/Production/Regulated", "owner": "identity"},
            {"ou": "/Production", "owner": "platform"},
        ],
        "vendors": vendor_failures.settings(dict(world.accounts)),
        "report": {"title": "Northwind Trading: KMS keys", "directory": "reports", "mart": "kmsledger.duckdb"},
        "mail": {
            "host": "localhost",
            "port": mail_port,
            "security": "starttls",
            "username": USER,
            "password": f"${{KMSLEDGER_MAIL_PASSWORD:-{PASSWORD}}}",
            "ca_bundle": "tls/ca.pem",
            "sender": "kmsledger@northwind.example",
            "recipients": ["security@northwind.example"],
        },
    }
    path = directory / "kmsledger.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def environment(aws: AwsServer, external_id: str) -> Mapping[str, str]:
    """The environment of the command: credentials of the management account, and the secrets of the settings file."""
    credentials = aws.session().get_credentials()
    if credentials is None:
        raise RuntimeError("the session of the demo server has no credentials")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **inherited,
        "AWS_ACCESS_KEY_ID": credentials.access_key or "",
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key or "",
        "AWS_EC2_METADATA_DISABLED": "true",
        "KMSLEDGER_EXTERNAL_ID": external_id,
        "KMSLEDGER_MAIL_PASSWORD": PASSWORD,
    }


def run(aws: AwsServer, *arguments: str) -> None:
    """Run the kmsledger command of this virtual environment; exit if it fails."""
    command = Path(sys.executable).with_name("kmsledger")
    started = time.monotonic()
    completed = subprocess.run([str(command), *arguments], env=environment(aws, EXTERNAL_ID), check=False)
    meaning = {0: "done", 1: "done, with findings", 3: "done, with gaps"}.get(completed.returncode, "failed")
    print_step(f"exit code {completed.returncode} ({meaning}) after {time.monotonic() - started:.0f} s")
    if completed.returncode not in SUCCESS_CODES:
        sys.exit(completed.returncode)


def print_step(text: str) -> None:
    """Print a progress line of the demo itself, set off from the output of the commands."""
    print(f"\n== {text}", flush=True)


def print_summary(seconds: float, settings: Path) -> None:
    """Print the locations of the results and three suggestions."""
    report = OUTPUT / "reports" / "kmsledger-overview.html"
    mails = sorted((OUTPUT / "mail").glob("*.eml"))
    sql = f".venv/bin/kmsledger sql --config {settings}"
    print(
        f"""
Done in {seconds:.0f} s.

  report  {report.resolve()}
  mail    {mails[0].resolve() if mails else "none"}
  ledger  {(OUTPUT / "ledger.db").resolve()}   (SQLite, with history)
  mart    {(OUTPUT / "kmsledger.duckdb").resolve()}   (DuckDB)

Try next:
  1. Open the report in a browser.
  2. {sql} "select severity, message from changes where severity = 'high'"
  3. {sql} "select key_arn, principal_account, actions from key_principals where party = 'external_account'"
"""
    )


if __name__ == "__main__":
    main()
