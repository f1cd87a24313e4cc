"""`make demo`: an organization of a made-up company, crawled two nights running, with its report and its mail.

Everything that happens to AWS here happens over HTTP, to a server on this machine; everything that kmsledger does is done by
its ordinary command with an ordinary settings file.
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
GOOD = {0, 1, 3}
"""Done, findings, and gaps: the demo's organization has both of the latter on purpose."""


def main() -> None:
    """Run the demo in ./demo-output and say what there is to look at."""
    started = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir()
    files = certificates.create(OUTPUT / "tls")
    mail = MailServer(files, user=USER, password=PASSWORD, directory=OUTPUT / "mail")
    with AwsServer() as aws, mail:
        say("building the organization of Northwind Trading through the AWS API ...")
        world = build(aws)
        apply_permanent_faults(aws, world)
        settings = write_settings(OUTPUT, aws.url, world, mail.port)
        say(f"{len(world.accounts)} accounts, {len(world.regions)} regions; settings in {settings}")
        say("first night: kmsledger crawl")
        run(aws, "crawl", "--config", str(settings))
        say("overnight, eight things change:")
        for sentence in second_run_changes.change(aws, world):
            print(f"   - {sentence}")
        say("second night: kmsledger nightly")
        run(aws, "nightly", "--config", str(settings))
    tell(time.monotonic() - started, settings)


def write_settings(directory: Path, url: str, world: World, mail_port: int) -> Path:
    """An ordinary settings file for the made-up organization.

    Its secrets come from the environment as they should; being made up, they have defaults, so that the commands which the
    demo suggests work in any shell.
    """
    tag, value = world.tier_tag
    settings = {
        "database": "sqlite:///ledger.db",
        "aws": {"region": "us-east-1", "endpoint_url": url},
        "regions": {"include": list(world.regions)},
        "role": {"name": world.role_name, "external_id": f"${{KMSLEDGER_EXTERNAL_ID:-{EXTERNAL_ID}}}"},
        # The made-up accounts have no production that needs its share.
        "crawl": {"quota_share_percent": 100, "iam": True},
        "rules": {"parameters": {"database-tier-key": {"tag": tag, "value": value}}},
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
    """What the command finds in its environment: credentials of the management account, and the secrets of the settings."""
    keys = aws.session().get_credentials()
    if keys is None:
        raise RuntimeError("the demo's own server has no credentials")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": keys.access_key or "",
        "AWS_SECRET_ACCESS_KEY": keys.secret_key or "",
        "AWS_EC2_METADATA_DISABLED": "true",
        "KMSLEDGER_EXTERNAL_ID": external_id,
        "KMSLEDGER_MAIL_PASSWORD": PASSWORD,
    }


def run(aws: AwsServer, *arguments: str) -> None:
    """Run the kmsledger command of this environment; ends the demo if it fails."""
    command = Path(sys.executable).with_name("kmsledger")
    started = time.monotonic()
    done = subprocess.run([str(command), *arguments], env=environment(aws, EXTERNAL_ID), check=False)
    meaning = {0: "done", 1: "done, with findings", 3: "done, with gaps"}.get(done.returncode, "failed")
    say(f"exit code {done.returncode}: {meaning}, after {time.monotonic() - started:.0f} s")
    if done.returncode not in GOOD:
        sys.exit(done.returncode)


def say(text: str) -> None:
    """A line of the demo itself."""
    print(f"\n== {text}", flush=True)


def tell(seconds: float, settings: Path) -> None:
    """Where everything is, and three things to try next."""
    report = OUTPUT / "reports" / "kmsledger-overview.html"
    mails = sorted((OUTPUT / "mail").glob("*.eml"))
    sql = f".venv/bin/kmsledger sql --config {settings}"
    print(
        f"""
Ready after {seconds:.0f} s.

  report     {report.resolve()}
  mail       {mails[0].resolve() if mails else "none"}
  ledger     {(OUTPUT / "ledger.db").resolve()}   (SQLite, with history)
  analysts'  {(OUTPUT / "kmsledger.duckdb").resolve()}   (DuckDB)

Try next:
  1. open the report in a browser
  2. {sql} "select message from changes order by severity"
  3. {sql} "select party, party_name, key_arn, actions from key_principals where party = 'external_account'"
"""
    )


if __name__ == "__main__":
    main()
