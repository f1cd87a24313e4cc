"""The command `kmsledger doctor` on a fake organization: healthy, with planted problems, and with unusable settings."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.faults import Denial, Faults
from benchmarks.fake_aws.presets import preset
from demo import certificates
from demo.smtp import MailServer
from models.remediation import EXTERNAL_ID
from tests import command
from tests.made_once import made_once

USER, PASSWORD = "kmsledger", "demo-password"
HOME, IRELAND, FRANKFURT, CAPE_TOWN = "us-east-1", "eu-west-1", "eu-central-1", "af-south-1"
HEALTHY = Faults(clock_offset=0.0)
SPARSE = 1 << 43
"""Bytes of a file without content: more than any disk has free."""


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    parameters = preset(
        "tiny", seed=4, accounts=5, adversarial=False, key_denials=False, keys_per_account_region=3, resources=0.1
    )
    with FakeAws(parameters, HEALTHY) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def mail(shared_directory: Path) -> Iterator[MailServer]:
    def create(directory: Path) -> None:
        directory.mkdir()
        certificates.create(directory)

    directory = made_once(shared_directory / "doctor-tls", create)
    files = certificates.Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    with MailServer(files, user=USER, password=PASSWORD) as server:
        shutil.copy(files.authority, directory / "authority.pem")
        yield server


@pytest.fixture
def settings(aws: FakeAws, mail: MailServer, shared_directory: Path, tmp_path: Path, sqlite_url: str) -> Path:
    """A settings file with which everything works."""
    values = {
        "database": sqlite_url,
        "aws": {"endpoint_url": aws.url},
        "role": {"external_id": aws.world.parameters.external_id},
        "crawl": {"quota_share_percent": 100},
        "report": {"mart": "kmsledger.duckdb", "directory": "reports"},
        "mail": {
            "host": "localhost",
            "port": mail.port,
            "username": USER,
            "password": PASSWORD,
            "ca_bundle": str(shared_directory / "doctor-tls" / "ca.pem"),
            "sender": "kmsledger@northwind.example",
            "recipients": ["security@northwind.example"],
        },
    }
    path = tmp_path / "kmsledger.yaml"
    write(path, values)
    (tmp_path / "ledger.db").chmod(0o600)
    aws.control.faults(HEALTHY)
    return path


def write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    path.chmod(0o600)


def change(path: Path, **groups: Mapping[str, Any]) -> None:
    """Change groups of the settings file."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    write(path, {**values, **{name: {**values.get(name, {}), **group} for name, group in groups.items()}})


def examined(aws: FakeAws, settings: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the checks of `kmsledger doctor`."""
    arguments = ("doctor", "--format", "json", *options, "--config", str(settings))
    done = command.run(*arguments, env={**os.environ, **aws.environment()})
    assert not done.stderr, done.stderr
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    return done.returncode, checks


def problems(checks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [check for check in checks if check["status"] != "ok"]


def customer_key(aws: FakeAws, account: str, region: str) -> str:
    """The ARN of a customer managed key."""
    account_region = aws.world.account_region(account, region)
    return f"arn:aws:kms:{region}:{account}:key/{account_region.key_id(account_region.customer_slots[0])}"


def snapshot(directory: Path) -> dict[str, bytes]:
    """The files of a directory that a run makes, and their content."""
    return {
        path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.stat().st_size < SPARSE
    }


def test_a_healthy_organization_has_no_problem(aws: FakeAws, mail: MailServer, settings: Path) -> None:
    """Everything is checked, nothing is reported, written or sent; the exit code is 0."""
    before = snapshot(settings.parent)
    code, checks = examined(aws, settings)
    assert (code, problems(checks)) == (0, [])
    assert [check["check"] for check in checks] == [
        *("credentials", "clock", "organization", "role", "action", "region", "key policy"),
        *("database", "disk", "permissions", "mail"),
    ]
    assert snapshot(settings.parent) == before
    assert not mail.messages
    called = {operation.partition(":")[2] for operation in aws.control.counters()["operations"]}
    assert all(name.startswith(("Describe", "List", "Get", "AssumeRole")) for name in called)


def test_eighteen_planted_problems_are_all_named_with_their_fix(aws: FakeAws, settings: Path) -> None:
    """Each problem is one check with the fix, and nothing else is reported."""
    world = aws.world
    gone, denied, locked, closed = (account.id for account in world.accounts[1:5])
    key, half = (customer_key(aws, locked, region) for region in (HOME, IRELAND))
    aws.control.faults(
        clock_offset=400.0,
        role_gone_after={gone: 0},
        denials=(
            Denial(operation="kms:ListGrants", account=denied),
            Denial(operation="kms:ListResourceTags", account=denied),
            Denial(operation="secretsmanager:ListSecrets", account=denied, reason="scp"),
            Denial(operation="kms:*", account=locked, key=key.rpartition("/")[2], reason="key policy"),
            Denial(operation="kms:GetKeyPolicy", account=locked, key=half.rpartition("/")[2], reason="key policy"),
            Denial(account=closed, region=FRANKFURT, reason="scp"),
            Denial(operation="organizations:ListRoots"),
        ),
    )
    change(
        settings,
        regions={"include": [HOME, IRELAND, FRANKFURT, CAPE_TOWN], "exclude": ["sa-east-1"]},
        organization={"exclude": {"accounts": ["999999999999"]}},
        mail={"password": "another"},
    )
    values = yaml.safe_load(settings.read_text(encoding="utf-8"))
    secret = f"whsec_{base64.b64encode(bytes(32)).decode()}"
    values["webhooks"] = [{"name": "siem", "url": "https://unknown.invalid/s3cret", "secret": secret}]
    values["chat"] = [{"name": "security", "url": "slck://s3cret-token"}]
    write(settings, values)
    settings.chmod(0o644)
    ledger, mart = settings.parent / "ledger.db", settings.parent / "kmsledger.duckdb"
    with contextlib.closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    with mart.open("wb") as file:
        file.truncate(SPARSE)
    mart.chmod(0o640)

    code, checks = examined(aws, settings)
    found = {(check["check"], *check["subjects"]): check for check in problems(checks)}
    role = f"arn:aws:iam::{gone}:role/KmsInventoryReadOnly"
    expected: dict[tuple[str, ...], str] = {
        ("clock",): "timedatectl set-ntp true",
        ("action", "organizations:ListRoots"): "add this statement to a policy of user kmsledger",
        ("settings", "999999999999"): "organization.exclude.accounts",
        ("region", CAPE_TOWN): f"aws account enable-region --region-name {CAPE_TOWN}",
        ("region", "sa-east-1"): "correct or remove it in regions.exclude",
        ("region", FRANKFURT): f"add {FRANKFURT} to regions.exclude if it is not used; otherwise add this condition",
        ("role", role): "create role KmsInventoryReadOnly (its policy: `kmsledger permissions --role member`)",
        (
            "action",
            "kms:ListGrants",
            "kms:ListResourceTags",
        ): "or attach the policy of `kmsledger permissions --role member`",
        (
            "action",
            "secretsmanager:ListSecrets",
        ): "add this condition to the Deny statement of the service control policy",
        ("key policy", key): "add this statement to the key policy of this key",
        ("key policy", half): "add this statement to the key policy of this key",
        ("database",): "run `kmsledger db upgrade`",
        ("disk", str(settings.parent)): "or move database, report.mart and report.directory",
        ("permissions", str(settings)): f"chmod go-rwx {settings}",
        ("permissions", str(mart)): f"chmod go-rwx {mart}",
        ("mail",): "check mail.username and mail.password",
        ("settings",): "see docs/delivery.md",
        ("webhook",): "check its url and DNS",
    }
    assert "s3cret" not in json.dumps(checks)
    assert len(found) == len(problems(checks))
    assert set(found) == set(expected)
    for subject, fix in expected.items():
        assert fix in found[subject]["fix"], subject
    statements = {subject: found[subject]["statement"] for subject in expected if found[subject]["statement"]}
    role_statement = statements["action", "kms:ListGrants", "kms:ListResourceTags"]
    assert role_statement["Action"] == ["kms:ListGrants", "kms:ListResourceTags"]
    assert "kms:DescribeKey" in statements["key policy", key]["Action"]
    assert statements["key policy", half] == {
        "Sid": "ReadKeyMetadata",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{locked}:role/KmsInventoryReadOnly"},
        "Action": ["kms:GetKeyPolicy"],
        "Resource": "*",
    }
    assert found["action", "kms:ListGrants", "kms:ListResourceTags"]["accounts"] == [denied]
    assert found["region", FRANKFURT]["accounts"] == [closed]
    assert code == 2  # because of the chat


@pytest.mark.parametrize("with_external_id", [True, False], ids=["external ID", "no external ID"])
def test_the_suggested_trust_policy_is_that_of_the_settings(
    aws: FakeAws, settings: Path, with_external_id: bool
) -> None:
    """The statement for a role that cannot be assumed requires an external ID exactly if the settings have one.

    A source identity is an action of its own, without the condition.
    """
    values = yaml.safe_load(settings.read_text(encoding="utf-8"))
    if not with_external_id:
        del values["role"]["external_id"]
    write(settings, values)
    gone = aws.world.accounts[1].id
    aws.control.faults(role_gone_after={gone: 0})
    _, checks = examined(aws, settings)
    (role,) = [check for check in problems(checks) if check["check"] == "role"]
    caller = {"AWS": f"arn:aws:iam::{aws.world.management.id}:user/kmsledger"}
    admitted: dict[str, Any] = {
        "Sid": "AdmitTheCrawler",
        "Effect": "Allow",
        "Principal": caller,
        "Action": "sts:AssumeRole",
    }
    if with_external_id:
        admitted["Condition"] = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    assert role["statement"] == admitted
    assert role["fix"].endswith("with this statement as its trust policy")
    assert str(aws.world.parameters.external_id) not in json.dumps(checks)
    change(settings, role={"source_identity": "kmsledger"})
    _, checks = examined(aws, settings)
    (role,) = [check for check in problems(checks) if check["check"] == "role"]
    tags = {"Sid": "AdmitItsTags", "Effect": "Allow", "Principal": caller, "Action": ["sts:SetSourceIdentity"]}
    assert role["statement"] == {"Version": "2012-10-17", "Statement": [admitted, tags]}
    assert role["fix"].endswith("with these statements as its trust policy")


def test_an_unknown_region_in_the_settings_is_named_once(aws: FakeAws, settings: Path) -> None:
    """A region that no partition has is an invalid setting: exit code 2, and the rest is examined all the same."""
    change(settings, regions={"include": [HOME, "eu-west-9"]})
    code, checks = examined(aws, settings, "--sample", "1")
    (unknown,) = problems(checks)
    assert code == 2
    assert unknown["message"] == "regions.include: AWS has no region eu-west-9"
    assert unknown["fix"].startswith("did you mean eu-west-")
    assert "5 accounts, 5 to crawl, 1 sampled" in [check["message"] for check in checks]


def test_settings_that_cannot_be_read_are_the_only_problem(aws: FakeAws, settings: Path) -> None:
    """Each invalid setting is a line with what is expected, and nothing is called."""
    settings.write_text("crawl: {processes: many}\nlog: {level: loud}\n", encoding="utf-8")
    aws.control.reset()
    code, checks = examined(aws, settings)
    assert code == 2
    assert [check["check"] for check in checks] == ["settings", "settings"]
    assert "write a whole number from 0 to 256" in checks[0]["fix"]
    assert not aws.control.counters()["operations"]


def test_without_valid_credentials_no_run_can_succeed(aws: FakeAws, settings: Path) -> None:
    """The fix for rejected credentials is named, the machine is examined all the same, and the exit code is 4."""
    arguments = ("doctor", "--config", str(settings))
    environment = {**os.environ, **aws.environment(), "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}
    done = command.run(*arguments, env=environment)
    assert done.returncode == 4
    lines = done.stdout.splitlines()
    assert lines[0].startswith("fatal    credentials  AWS rejected the credentials (InvalidClientTokenId")
    assert lines[1].strip() == "fix: renew them, or correct aws.profile"
    assert lines[-1] == "1 problem"


def test_the_organization_cannot_be_read(aws: FakeAws, settings: Path) -> None:
    """A denied listing of accounts is fatal, and names the command that prints the policy."""
    aws.control.faults(denials=(Denial(operation="organizations:ListAccounts"),))
    code, checks = examined(aws, settings)
    (fatal,) = problems(checks)
    assert (code, fatal["check"], fatal["status"]) == (4, "organization", "fatal")
    assert "kmsledger permissions --role management" in fatal["fix"]
