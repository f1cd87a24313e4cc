"""The command `init`: a valid settings file for the caller's organization, whatever AWS answers."""

from __future__ import annotations

import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crawler.aws.errors import AwsError
from crawler.init_cli import init
from crawler.spec import Operation
from models.settings import load
from models.tables.runs import Cause
from tests.crawler.http_stub import MANAGEMENT
from tests.crawler.scripted_aws import Answer
from tests.crawler.wire_aws import WireAws
from tests.crawler.wire_organization import answer, over

CALLER = f"arn:aws:iam::{MANAGEMENT}:user/crawler"
DENIED = AwsError(Cause.ROLE_PERMISSION, "AccessDeniedException", "no identity-based policy allows it\x1b[2J")


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command in an empty directory, without the AWS configuration of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))


def aws(**changed: Answer | BaseException) -> WireAws:
    """The scripted organization with other responses by operation name."""

    def respond(operation: Operation, params: Mapping[str, Any]) -> Answer:
        if operation.name == "GetCallerIdentity" and operation.name not in changed:
            return {"Arn": CALLER, "Account": MANAGEMENT, "UserId": "AIDA"}
        return changed[operation.name] if operation.name in changed else answer(operation, params)

    return WireAws(answer=respond)


def run(*arguments: str, **changed: Answer | BaseException) -> Result:
    """Run the command without a terminal."""
    with over(aws(**changed)):
        return CliRunner().invoke(init, arguments, catch_exceptions=False)


def test_the_file_describes_the_organization_and_passes_the_check() -> None:
    """Without a terminal nothing is asked; the file is valid, only its owner can read it, and the next commands are printed."""
    previous = os.umask(0)
    try:
        result = run()
    finally:
        os.umask(previous)
    assert result.exit_code == 0, result.output
    path = Path("kmsledger.yaml")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    settings = load(path, {})
    assert (settings.organization.source, settings.role.name, settings.aws.region) == (
        "organizations",
        "KmsInventoryReadOnly",
        "us-east-1",
    )
    assert [owner.tag for owner in settings.owners] == ["Owner"]
    text = path.read_text(encoding="utf-8")
    assert f"# organization: o-example with 3 accounts (3 active), managed by account {MANAGEMENT}" in text
    assert CALLER in text
    commands = re.findall(r"^  kmsledger (.*?) *#", result.stdout, re.MULTILINE)
    assert commands == ["config check", f"permissions --principal {CALLER}", "doctor", "crawl"]


def test_options_are_written_as_they_are() -> None:
    """Each option ends up in its setting, also text that YAML or the settings would interpret."""
    result = run(
        *("--config", "own.yaml", "--profile", "null", "--region", "eu-west-1", "--role-name", "team/Re@der"),
        *("--external-id", "--iam", "--owner-tag", 'cost ${center}: "x" #1 \x9b'),
        GetCallerIdentity=DENIED,
    )
    assert result.exit_code == 0, result.output
    settings = load(Path("own.yaml"), {})
    assert (settings.aws.profile, settings.aws.region, settings.role.name) == ("null", "eu-west-1", "team/Re@der")
    assert settings.crawl.iam
    assert settings.role.external_id is not None
    assert re.fullmatch(r"[0-9a-f]{32}", settings.role.external_id.get_secret_value())
    assert settings.role.external_id.get_secret_value() not in result.output
    assert settings.owners[0].tag == 'cost ${center}: "x" #1 \x9b'
    assert "kmsledger crawl --config own.yaml" in result.stdout


def test_no_owners_and_no_external_id_by_choice() -> None:
    """The owner tag `-` means none; without --external-id there is none."""
    assert run("--owner-tag", "-").exit_code == 0
    settings = load(Path("kmsledger.yaml"), {})
    assert (settings.owners, settings.role.external_id, settings.crawl.iam) == ((), None, False)


def test_an_existing_file_is_kept() -> None:
    """A file, even a dangling link, is replaced only with --force; the new file has the same mode."""
    path, target = Path("kmsledger.yaml"), Path("elsewhere.yaml")
    path.write_text("log: {level: debug}\n", encoding="utf-8")
    path.chmod(0o644)
    with pytest.raises(Exception, match=r"kmsledger.yaml exists and is not overwritten: .*--force") as failure:
        run()
    assert getattr(failure.value, "exit_code", None) == 2
    assert path.read_text(encoding="utf-8") == "log: {level: debug}\n"
    assert run("--force").exit_code == 0
    assert "owners" in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Path("link.yaml").symlink_to(target)
    with pytest.raises(Exception, match="exists and is not overwritten"):
        run("--config", "link.yaml")
    assert not target.exists()


@pytest.mark.parametrize(
    ("changed", "sentence", "reader"),
    [
        ({"GetCallerIdentity": DENIED}, "sts:GetCallerIdentity failed", "arn:aws:iam::123456789012:role/"),
        (
            {"DescribeOrganization": DENIED},
            "organizations:DescribeOrganization failed",
            "arn:aws:iam::123456789012:role/",
        ),
        ({"ListAccounts": DENIED}, "organizations:ListAccounts failed", f"arn:aws:iam::{MANAGEMENT}:role/"),
        (
            {"DescribeOrganization": {"Organization": {"Id": "o-\x1b[31m", "MasterAccountId": "x"}}},
            "organizations:DescribeOrganization returned an invalid response",
            "arn:aws:iam::123456789012:role/",
        ),
    ],
)
def test_what_aws_does_not_answer_is_unknown(changed: dict[str, Any], sentence: str, reader: str) -> None:
    """A failed call is named with its cause, without control characters, and the file is written all the same."""
    result = run(**changed)
    assert result.exit_code == 0
    assert f"unknown: {sentence}" in result.stderr
    assert "\x1b" not in result.output
    text = Path("kmsledger.yaml").read_text(encoding="utf-8")
    assert f"# reader_role: {reader}" in text
    assert "\x1b" not in text
    assert load(Path("kmsledger.yaml"), {}).organization.source == "organizations"


def test_an_account_without_an_organization_is_listed() -> None:
    """Outside an organization, the settings list the caller's account, which a crawl reads with its own credentials."""
    error = AwsError(
        Cause.REJECTED, "AWSOrganizationsNotInUseException", "Your account is not a member of an organization."
    )
    result = run(DescribeOrganization=error)
    assert "organization: none; only this account is crawled" in result.stderr
    organization = load(Path("kmsledger.yaml"), {}).organization
    assert (organization.source, [account.id for account in organization.accounts]) == ("list", [MANAGEMENT])


def test_offline_nothing_is_called() -> None:
    """--offline calls nothing in AWS, and says so."""
    aws_server = aws()
    with over(aws_server):
        result = CliRunner().invoke(init, ["--offline"], catch_exceptions=False)
    assert result.exit_code == 0
    assert aws_server.calls == []
    assert "AWS was not called" in result.stderr
    assert "permissions --principal ARN" in result.stdout


def test_without_credentials_the_file_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the command says how to provide them, and writes a file with defaults."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = CliRunner().invoke(init, [], catch_exceptions=False)
    assert result.exit_code == 0
    assert "no AWS credentials were found" in result.stderr
    assert load(Path("kmsledger.yaml"), {}).role.name == "KmsInventoryReadOnly"


@pytest.mark.parametrize(
    ("arn", "principal", "note"),
    [
        (f"arn:aws:sts::{MANAGEMENT}:assumed-role/Crawler/i-0abc", f"arn:aws:iam::{MANAGEMENT}:role/Crawler", True),
        (f"arn:aws:iam::{MANAGEMENT}:root", f"arn:aws:iam::{MANAGEMENT}:root", False),
        (f"arn:aws:sts::{MANAGEMENT}:federated-user/someone", "ARN", False),
    ],
)
def test_a_policy_names_the_role_of_a_session(arn: str, principal: str, note: bool) -> None:
    """The next command names the role, user or root of the caller; a session does not show the path of its role."""
    result = run(GetCallerIdentity={"Arn": arn, "Account": MANAGEMENT, "UserId": "AROA:x"})
    assert f"permissions --principal {principal} " in result.stdout
    assert ("has a path" in result.stdout) == note


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--region", "eu-wset-1", 'did you mean "eu-west-1"?'),
        ("--role-name", "arn:aws:iam::111122223333:role/Reader", "this is an ARN"),
        ("--endpoint-url", "localhost:4566", "a URL such as https://host:port"),
    ],
)
def test_an_invalid_option_is_rejected_before_anything_is_written(option: str, value: str, expected: str) -> None:
    """Options have the checks of their settings."""
    result = run(option, value)
    assert result.exit_code == 2
    assert expected in result.output
    assert not list(Path().iterdir())


def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    """On a terminal the command asks for what no option says, and repeats a question after an invalid answer."""
    program = "from crawler.init_cli import init; init()"
    arguments = [sys.executable, "-c", program, "--offline", "--role-name", "Reader"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        os.close(theirs)
        os.write(ours, b"\neu-wset-1\neu-west-1\ny\ny\nTeam\n")
        output = read_all(lambda: os.read(ours, 4096))
    os.close(ours)
    assert process.returncode == 0, output
    assert 'did you mean "eu-west-1"?' in output
    assert "role to assume" not in output  # an option says it
    settings = load(tmp_path / "kmsledger.yaml", {})
    assert (settings.aws.region, settings.role.name, settings.crawl.iam) == ("eu-west-1", "Reader", True)
    assert settings.role.external_id is not None
    assert [owner.tag for owner in settings.owners] == ["Team"]


ROOT = Path(__file__).parents[2]


def read_all(read: Callable[[], bytes]) -> str:
    """Read a terminal until its other end is closed."""
    output = b""
    while True:
        try:
            data = read()
        except OSError:
            data = b""
        if not data:
            return output.decode()
        output += data
