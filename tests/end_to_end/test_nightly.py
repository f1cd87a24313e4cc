"""The unattended run: crawl, mart, reports and mail, with one exit code."""

from __future__ import annotations

import email
import email.policy
import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from benchmarks.fake_aws.client import FakeAws
from demo import certificates
from demo.smtp import MailServer
from tests.end_to_end.conftest import Installation, Workspace
from tests.end_to_end.small_installation import install, small_organization


@pytest.fixture(scope="module")
def reported(
    mail: MailServer, tls: certificates.Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """A nightly run of a small organization that has sent its report; read-only, tests that change it use a copy."""
    with FakeAws(small_organization()) as aws:
        installation = install(tmp_path_factory.mktemp("nightly"), aws, mail, tls, ["once@northwind.example"])
        done = installation.run("nightly")
        assert done.returncode == 3, done.stderr
    return installation


@pytest.fixture
def unsent(reported: Installation, tmp_path: Path) -> Installation:
    """A copy of the run, to report to other recipients."""
    directory = tmp_path / "nightly"
    shutil.copytree(reported.directory, directory)
    return Installation(reported.mail, directory, directory / reported.settings.name, reported.environment)


def mails(installation: Installation, recipient: str) -> list[email.message.EmailMessage]:
    """The accepted messages for one recipient."""
    return [
        email.message_from_bytes(message.content, policy=email.policy.default)
        for message in installation.mail.messages
        if message.recipients == (recipient,)
    ]


def test_the_mail_arrives_once_with_the_report(reported: Installation) -> None:
    """The recipient gets text, HTML and the attached report over STARTTLS with a login, once per run."""
    (message,) = mails(reported, "once@northwind.example")
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "text/html",
    ]
    (attached,) = list(message.iter_attachments())
    assert attached.get_content() == (reported.directory / "reports" / "kmsledger-overview-run1.html").read_text()
    again = reported.run("mail")
    assert again.returncode == 0, again.stderr
    assert len(mails(reported, "once@northwind.example")) == 1


@pytest.mark.deep
def test_a_nightly_run_without_a_mail_server(account_workspace: Workspace) -> None:
    """Without a mail server, the exit code is 4, crawl and report are complete, and `mail` sends the report later."""
    port = account_workspace.mail.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = taken.getsockname()[1]
    account_workspace.change(mail={"port": dead, "recipients": ["later@northwind.example"]})
    done = account_workspace.run("nightly")
    assert done.returncode == 4
    assert f"{dead}" in done.stderr
    assert done.stderr.count("refuses the connection") == 1
    assert account_workspace.sql("select max(run_id) n from runs") == [{"n": 2}]
    assert list((account_workspace.directory / "reports").glob("kmsledger-overview-run2.html"))
    account_workspace.change(mail={"port": port})
    assert account_workspace.run("mail").returncode == 0
    assert len(mails(account_workspace, "later@northwind.example")) == 1


def test_an_untrusted_certificate(unsent: Installation, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A server with a certificate of another CA gets neither password nor mail."""
    other_ca = certificates.create(tmp_path_factory.mktemp("other"))
    shutil.copy(other_ca.authority, unsent.directory / "tls" / "ca.pem")
    unsent.change(mail={"recipients": ["tls@northwind.example"]})
    done = unsent.run("mail")
    assert done.returncode == 4
    assert "certificate" in done.stderr
    assert mails(unsent, "tls@northwind.example") == []


def test_a_wrong_password(unsent: Installation) -> None:
    """The message reports a rejected login without the password."""
    unsent.change(mail={"password": "not-the-password", "recipients": ["login@northwind.example"]})
    done = unsent.run("mail")
    assert done.returncode == 4
    assert "mail.password" in done.stderr or "password" in done.stderr
    assert "not-the-password" not in done.stderr


def test_a_rejected_recipient_leaves_the_others_their_mail(unsent: Installation) -> None:
    """If the server rejects one recipient, the other gets the mail; delivery log and exit code record the rejection."""
    unsent.change(mail={"recipients": ["gone@northwind.example", "here@northwind.example"]})
    done = unsent.run("mail")
    assert done.returncode == 4
    assert "gone@northwind.example" in done.stderr
    assert len(mails(unsent, "here@northwind.example")) == 1
    with sqlite3.connect(unsent.directory / "ledger.db") as connection:
        delivery_log = dict(connection.execute("select recipient, status from delivery"))
    assert delivery_log == {
        "gone@northwind.example": "rejected",
        "here@northwind.example": "sent",
        "once@northwind.example": "sent",
    }


@pytest.mark.deep
def test_reports_are_published_and_linked(unsent: Installation) -> None:
    """Mails link the published report; if it cannot be published, the mail arrives without a link, and the exit code is 4."""
    unsent.change(
        mail={"recipients": ["link@northwind.example"]},
        report={"publish": "public", "base_url": "https://reports.northwind.example/kms/"},
    )
    for command in (["report", "compliance"], ["mail"]):
        done = unsent.run(*command)
        assert done.returncode == 0, done.stderr
    assert (unsent.directory / "public" / "kmsledger-compliance-run1.html").exists()
    name = "kmsledger-overview-run1.html"
    assert f'href="{name}"' in (unsent.directory / "public" / "index.html").read_text()
    assert (unsent.directory / "public" / name).read_bytes() == (unsent.directory / "reports" / name).read_bytes()
    (message,) = mails(unsent, "link@northwind.example")
    link = f"https://reports.northwind.example/kms/{name}"
    assert f"Report: {link}" in message.get_body(("plain",)).get_content().splitlines()  # type: ignore[union-attr]

    shutil.rmtree(unsent.directory / "public")
    (unsent.directory / "public").write_text("a file")
    unsent.change(mail={"recipients": ["nolink@northwind.example"]})
    done = unsent.run("mail")
    assert done.returncode == 4
    assert "correct report.publish" in done.stderr
    (message,) = mails(unsent, "nolink@northwind.example")
    assert link not in message.as_string()


def test_a_dry_run_writes_nothing(unsent: Installation) -> None:
    """--dry-run lists who gets what, and changes no file: neither reports, ledger nor published copies."""
    unsent.change(
        mail={"recipients": ["once@northwind.example", "dry@northwind.example"]}, report={"publish": "public"}
    )
    shutil.rmtree(unsent.directory / "reports")
    done = unsent.run("mail", "--dry-run")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("delivery: once@northwind.example: it was sent (")
    assert second.startswith("delivery: dry@northwind.example gets “[kmsledger] KMS ledger: ")
    assert "with kmsledger-overview-run1.html (" in second
    assert mails(unsent, "dry@northwind.example") == []
    assert not (unsent.directory / "reports").exists()
    assert not (unsent.directory / "public").exists()


def test_an_unknown_recipient_stops_the_command_before_it_writes(unsent: Installation) -> None:
    """--to with a name that is not in the settings is a usage error: no report is written."""
    shutil.rmtree(unsent.directory / "reports")
    done = unsent.run("mail", "--to", "eve@evil.example")
    assert done.returncode == 2
    assert "eve@evil.example is no recipient in the settings: choose from once@northwind.example" in done.stderr
    assert not (unsent.directory / "reports").exists()


@pytest.mark.deep
def test_routes_get_only_their_report(unsent: Installation) -> None:
    """A route gets the report about its account; an owner without resources is an error that delays nobody else's mail."""
    accounts = [row["account_id"] for row in unsent.sql("select account_id from accounts order by 1")]
    unsent.change(
        mail={
            "recipients": ["all@northwind.example"],
            "routes": [
                {"owner": "nobody", "recipients": ["nobody@northwind.example"]},
                {"account": accounts[0], "recipients": ["team@northwind.example", "all@northwind.example"]},
                {"ou": "/", "recipients": ["unit@northwind.example"]},
                {"severity": "info", "recipients": ["always@northwind.example"]},
                {"severity": "critical", "account": accounts[1], "recipients": ["calm@northwind.example"]},
            ],
        }
    )
    done = unsent.run("mail")
    assert done.returncode == 4
    assert "no mail to nobody@northwind.example: there is no owner 'nobody'" in done.stderr
    assert "no mail to calm@northwind.example: no failure is critical or more severe" in done.stdout
    assert mails(unsent, "calm@northwind.example") == []
    for name, report in (("unit", "ou-"), ("always", "overview-")):
        (mail,) = mails(unsent, f"{name}@northwind.example")
        assert str(next(mail.iter_attachments()).get_filename()).startswith(f"kmsledger-{report}")
    (team,) = mails(unsent, "team@northwind.example")
    (attached,) = team.iter_attachments()
    assert attached.get_filename() == f"kmsledger-account-{accounts[0]}-run1.html"
    assert f"({accounts[0]}): " in team["Subject"]
    whole, part = mails(unsent, "all@northwind.example")
    assert [next(mail.iter_attachments()).get_filename() for mail in (whole, part)] == [
        "kmsledger-overview-run1.html",
        f"kmsledger-account-{accounts[0]}-run1.html",
    ]
    assert len({mail["Message-ID"] for mail in (whole, part)}) == 2
    assert len({mail["List-Id"] for mail in (whole, part)}) == 2
    assert unsent.run("mail", "--to", "team@northwind.example").returncode == 0
    assert unsent.run("mail", "--to", "team@northwind.example", "--resend").returncode == 0
    assert [len(mails(unsent, f"{name}@northwind.example")) for name in ("team", "all", "nobody")] == [2, 2, 0]


@pytest.mark.deep
def test_a_route_by_severity_is_served_without_results(unsent: Installation) -> None:
    """If rules were never evaluated, whether anything fails is unknown, so the route gets its report, which says so."""
    with sqlite3.connect(unsent.directory / "ledger.db") as connection:
        connection.execute("delete from finding")
        connection.execute("delete from rule_result")
    built = unsent.run("mart", "--output", str(unsent.directory / "plain.duckdb"))
    assert built.returncode == 0, built.stderr
    routes = [{"severity": "critical", "recipients": ["blind@northwind.example"]}]
    unsent.change(mail={"routes": routes}, report={"mart": "plain.duckdb"})
    done = unsent.run("mail", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "delivery: blind@northwind.example gets" in done.stdout
    assert "rules not evaluated" in done.stdout
