"""The session with a mail server: connection, TLS and login, and the errors of each step."""

import socket
from pathlib import Path

import pytest

from tests.reports.notify.conftest import Authority, SettingsFactory, free_port, run_post, run_script
from tests.reports.notify.smtp_helpers import LOGIN, StartPost, failure, failure_with_outcomes

# --- the connection --------------------------------------------------------------------------------------------------


def test_refused_connection(mail_settings: SettingsFactory) -> None:
    """The error explains a port where nobody listens."""
    port = free_port()
    error, outcomes = failure_with_outcomes(mail_settings(port=port), "a@example.org", "b@example.org")
    assert f"localhost:{port} refuses the connection: check mail.host and mail.port" in error.message
    assert [outcome.status for outcome in outcomes] == ["failed", "failed"]


@pytest.mark.parametrize("host", ["mail.invalid", "a..b", "x" * 70 + ".example"])
def test_unknown_host(mail_settings: SettingsFactory, host: str) -> None:
    """The error explains a name that does not resolve, or is not even a name."""
    error = failure(mail_settings(host=host, port=587))
    assert f"The mail server '{host}' could not be resolved: check mail.host" in error.message


def test_time_out(mail_settings: SettingsFactory) -> None:
    """A silent server ends the attempt after mail.timeout."""
    with run_script(None) as port:
        error = failure(mail_settings(port=port, timeout=1))
    assert "did not answer within 1 seconds" in error.message


def test_time_out_on_the_port_of_implicit_tls(mail_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the hint for the common mix-up: STARTTLS against port 465, where both sides wait for the other."""
    connect = socket.create_connection
    with run_script(None) as port:
        # Port 465 itself needs root; only the address is redirected, the connection is real.
        monkeypatch.setattr(
            socket, "create_connection", lambda address, *rest, **more: connect((address[0], port), *rest, **more)
        )
        error = failure(mail_settings(port=465, timeout=1))
    assert "port 465 uses implicit TLS, set mail.security to tls" in error.message


def test_server_that_does_not_want_to_talk(mail_settings: SettingsFactory) -> None:
    """The error explains a greeting that refuses the client."""
    with run_script(b"554 5.7.1 your address is blocked\r\n") as port:
        error = failure(mail_settings(port=port))
    assert "rejects the connection (554 5.7.1 your address is blocked)" in error.message


def test_connection_closed_before_the_greeting(mail_settings: SettingsFactory) -> None:
    """The error explains a server that hangs up at once."""
    with run_script() as port:
        error = failure(mail_settings(port=port))
    assert "closed the connection before a mail was sent" in error.message


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_server_without_starttls(mail_settings: SettingsFactory) -> None:
    """Nothing goes out in clear text when the server (or somebody between) offers no STARTTLS."""
    with run_post() as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "does not offer STARTTLS, so nothing was sent" in error.message
    assert post.transactions == 0


def test_starttls_refused(mail_settings: SettingsFactory) -> None:
    """A refused STARTTLS is not followed by clear text."""
    with run_script(b"220 hi\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"454 TLS not available\r\n") as port:
        error = failure(mail_settings(port=port, **LOGIN))
    assert "rejects it (454 TLS not available), so nothing was sent" in error.message


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("wrong", ["untrusted", "other host", "expired"])
def test_wrong_certificate(
    mail_settings: SettingsFactory, authority: Authority, stranger: Authority, security: str, wrong: str
) -> None:
    """Certificate and host name are always verified, and each failure has its own reason."""
    context, says = {
        "untrusted": (stranger.server_context(), "untrusted certificate ("),
        "other host": (authority.server_context("mail.example.org"), "a certificate for another host: set mail.host"),
        "expired": (authority.server_context(days=-2), "an expired certificate"),
    }[wrong]
    with run_post(starttls=context) if security == "starttls" else run_post(tls=context) as post:
        error = failure(mail_settings(port=post.port, security=security, **LOGIN))
    assert says in error.message
    if wrong == "untrusted":
        assert "set mail.ca_bundle" in error.message


def test_without_ca_bundle_the_system_decides(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """An unset ca_bundle means the system's authorities, not none."""
    with starttls_post() as post:
        settings = mail_settings(port=post.port).model_copy(update={"ca_bundle": None})
        error = failure(settings)
    assert "untrusted certificate" in error.message


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("no certificate", "no PEM certificate")])
def test_unusable_ca_bundle(
    mail_settings: SettingsFactory, starttls_post: StartPost, tmp_path: Path, content: str | None, reason: str
) -> None:
    """A wrong ca_bundle is named instead of falling back to other authorities."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    with starttls_post() as post:
        error = failure(mail_settings(port=post.port).model_copy(update={"ca_bundle": bundle}))
    assert f"mail.ca_bundle {bundle} cannot be used" in error.message
    assert reason in error.message


def test_clear_text_port_with_implicit_tls(mail_settings: SettingsFactory) -> None:
    """Guards the hint for the other mix-up: TLS from the start against a port that greets in clear text."""
    with run_script(b"220 hi\r\n", None) as port:
        error = failure(mail_settings(port=port, security="tls"))
    assert "does not use TLS as expected" in error.message
    assert "starttls for port 587" in error.message


def test_a_password_is_never_sent_without_tls(mail_settings: SettingsFactory) -> None:
    """Guards the rejection of a password without TLS, also for settings that were not validated."""
    with run_post(auth_require_tls=False) as post:
        login = mail_settings(**LOGIN)
        settings = login.model_copy(update={"security": "none", "port": post.port})
        error = failure(settings)
    assert "A password is never sent without TLS: set mail.security" in error.message
    assert post.sessions == set()


# --- the login -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [[], ["PLAIN"]], ids=["plain", "login"])
def test_wrong_password(mail_settings: SettingsFactory, starttls_post: StartPost, exclude: list[str]) -> None:
    """The error explains a rejected login, which names the user and never the password."""
    with starttls_post(auth_exclude_mechanism=exclude) as post:
        error, outcomes = failure_with_outcomes(mail_settings(port=post.port, username="ledger", password="hunter2"))
    assert "rejects the login of ledger (code 535): check mail.username and mail.password" in error.message
    assert "hunter2" not in repr(outcomes) + error.message


def test_login_that_the_server_does_not_offer(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """The error explains that the server offers no supported login method."""
    with starttls_post(auth_exclude_mechanism=["PLAIN", "LOGIN"]) as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "offers no supported authentication method" in error.message
    assert post.transactions == 0


def test_server_without_auth(mail_settings: SettingsFactory, authority: Authority) -> None:
    """The error explains that the server does not support a login."""
    with run_post(tls=authority.server_context(), auth_require_tls=True) as post:
        error = failure(mail_settings(port=post.port, security="tls", **LOGIN))
    assert "does not offer authentication: remove mail.username and mail.password" in error.message


def test_password_outside_ascii_without_auth_plain(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """A password which cannot be sent is explained and not shown."""
    with starttls_post(auth_exclude_mechanism=["PLAIN"]) as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "does not offer AUTH PLAIN, which a user name or password outside ASCII requires" in error.message
