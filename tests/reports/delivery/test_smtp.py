"""Sending against a real mail server: what is delivered, and what is said when it is not."""

import email
import email.policy
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from models.settings import MailSettings
from reports.delivery.mail import Summary, compose
from reports.delivery.smtp import DeliveryError, Outcome, send
from tests.reports.delivery.conftest import (
    PASSWORD,
    Authority,
    Post,
    SettingsFactory,
    free_port,
    run_post,
    run_script,
)
from tests.reports.delivery.test_mail import SUMMARY

StartPost = Callable[..., AbstractContextManager[Post]]
LOGIN = {"username": "ledger", "password": PASSWORD}
EHLO = b"250-mail.example.org\r\n250 8BITMIME\r\n"


def deliver(
    settings: MailSettings, *recipients: str, summary: Summary = SUMMARY
) -> tuple[list[Outcome], list[Outcome]]:
    """Compose and send; return the outcomes and what the callback was told."""
    told: list[Outcome] = []
    mails = [(to, compose(summary, settings, recipient=to)) for to in recipients or ("ciso@example.org",)]
    return send(mails, settings, told.append), told


def failure(settings: MailSettings, *recipients: str) -> DeliveryError:
    """Send, expect a DeliveryError, and check what holds for every one of them."""
    told: list[Outcome] = []
    mails = [(to, compose(SUMMARY, settings, recipient=to)) for to in recipients or ("ciso@example.org",)]
    with pytest.raises(DeliveryError) as caught:
        send(mails, settings, told.append)
    error = caught.value
    assert error.exit_code == 4
    assert "\n" not in error.message
    assert error.message.endswith(".")
    assert [outcome.recipient for outcome in told] == [to for to, _ in mails]
    assert list(error.outcomes) == told
    assert PASSWORD not in error.message + repr(told)
    return error


# --- delivery --------------------------------------------------------------------------------------------------------


def test_starttls_with_login_delivers_one_mail_a_recipient(
    mail_settings: SettingsFactory, starttls_post: StartPost
) -> None:
    """Guards the normal night: TLS, a login with a password outside ASCII, one connection, a mail for each."""
    with starttls_post(auth_required=True) as post:
        outcomes, told = deliver(mail_settings(port=post.port, **LOGIN), "ciso@example.org", "audit@example.org")
    assert [(outcome.recipient, outcome.status) for outcome in outcomes] == [
        ("ciso@example.org", "sent"),
        ("audit@example.org", "sent"),
    ]
    assert told == outcomes
    assert len(post.sessions) == 1
    for recipient, content in post.delivered:
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        assert parsed["To"] == recipient
        assert parsed["Subject"] == "KMS ledger: partial (2026-11-20)"


def test_implicit_tls_delivers(mail_settings: SettingsFactory, authority: Authority) -> None:
    """Guards security: tls, where the connection starts with the TLS handshake."""
    with run_post(tls=authority.server_context()) as post:
        outcomes, _ = deliver(mail_settings(port=post.port, security="tls", **LOGIN))
    assert [outcome.status for outcome in outcomes] == ["sent"]
    assert len(post.delivered) == 1


def test_no_tls_delivers_without_password(mail_settings: SettingsFactory) -> None:
    """Guards security: none for a relay on the same machine."""
    with run_post() as post:
        outcomes, _ = deliver(mail_settings(port=post.port, security="none"))
    assert [outcome.status for outcome in outcomes] == ["sent"]


def test_lines_that_start_with_a_dot_arrive_whole(mail_settings: SettingsFactory) -> None:
    """Guards dot-stuffing: a line with a single dot must neither end the mail nor vanish."""
    settings = mail_settings(security="none")
    message = compose(SUMMARY, settings, recipient="ciso@example.org")
    message.clear_content()
    message.set_content("first\n.\n..two\nlast\n")
    with run_post() as post:
        send([("ciso@example.org", message)], settings.model_copy(update={"port": post.port}))
    assert post.delivered[0][1].endswith(b"first\r\n.\r\n..two\r\nlast\r\n")


def test_a_name_beside_the_address_is_not_part_of_the_envelope(mail_settings: SettingsFactory) -> None:
    """Guards that the envelope holds the bare address, with its domain in ASCII."""
    with run_post() as post:
        outcomes, _ = deliver(mail_settings(port=post.port, security="none"), "Jörg <joerg@bücher.example>")
    assert outcomes[0].recipient == "Jörg <joerg@bücher.example>"
    assert post.delivered[0][0] == "joerg@xn--bcher-kva.example"


@pytest.mark.parametrize(("smtputf8", "status"), [(True, "sent"), (False, "rejected")])
def test_an_address_outside_ascii_needs_smtputf8(mail_settings: SettingsFactory, smtputf8: bool, status: str) -> None:
    """Guards international addresses: sent where the server takes them, else that recipient alone is rejected."""
    with run_post(enable_SMTPUTF8=smtputf8) as post:
        settings = mail_settings(port=post.port, security="none")
        outcomes, _ = deliver(settings, "jörg@example.org", "ciso@example.org")
    assert [outcome.status for outcome in outcomes] == [status, "sent"]


def test_nothing_due_opens_no_connection(mail_settings: SettingsFactory) -> None:
    """Guards that a night with nothing to send does not depend on the mail server."""
    assert send([], mail_settings(port=free_port())) == []


def test_a_server_that_hangs_up_at_goodbye_changes_nothing(mail_settings: SettingsFactory) -> None:
    """Guards that a mail stays sent when only QUIT fails."""
    with run_script(b"220 hi\r\n", EHLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 queued\r\n") as port:
        outcomes, _ = deliver(mail_settings(port=port, security="none"))
    assert outcomes == [Outcome("ciso@example.org", "sent", "250 queued")]


def test_outcome_is_told_before_the_next_mail(mail_settings: SettingsFactory) -> None:
    """Guards that a caller can commit each outcome, and that an error of its own stops the sending."""
    with run_post() as post:
        settings = mail_settings(port=post.port, security="none")
        seen: list[int] = []

        def commit(outcome: Outcome) -> None:
            seen.append(post.transactions)
            if outcome.recipient == "b@example.org":
                raise RuntimeError("database is gone")

        mails = [(to, compose(SUMMARY, settings, recipient=to)) for to in ("a@example.org", "b@example.org", "c@x.org")]
        with pytest.raises(RuntimeError, match="database is gone"):
            send(mails, settings, commit)
    assert seen == [1, 2]
    assert len(post.delivered) == 2


# --- single recipients -----------------------------------------------------------------------------------------------


def test_a_rejected_recipient_does_not_stop_the_others(mail_settings: SettingsFactory) -> None:
    """Guards that each recipient has its own outcome: refused for good, for now, by content, and accepted."""
    post = Post(
        at_rcpt={"gone@example.org": "550 5.1.1 no such user", "grey@example.org": "450 4.7.1 come back later"},
        at_data={
            "filter@example.org": "554 5.7.1 looks like\x1b[31m spam",
            "full@example.org": "552 5.2.2 mailbox full",
        },
    )
    with run_post(post):
        outcomes, told = deliver(
            mail_settings(port=post.port, security="none"),
            *("gone@example.org", "grey@example.org", "filter@example.org", "full@example.org", "ciso@example.org"),
        )
    assert [(outcome.status, outcome.detail[:9]) for outcome in outcomes] == [
        ("rejected", "550 5.1.1"),
        ("failed", "450 4.7.1"),
        ("rejected", "554 5.7.1"),
        ("rejected", "552 5.2.2"),
        ("sent", "250 2.0.0"),
    ]
    assert "\x1b" not in outcomes[2].detail
    assert told == outcomes
    assert [recipient for recipient, _ in post.delivered] == ["ciso@example.org"]


def test_all_recipients_rejected(mail_settings: SettingsFactory) -> None:
    """Guards the sentence for a list of recipients of which none is right."""
    post = Post(at_rcpt={"a@example.org": "550 no such user", "b@example.org": "550 no such user"})
    with run_post(post):
        error = failure(mail_settings(port=post.port, security="none"), "a@example.org", "b@example.org")
    assert "rejects all 2 recipients (a@example.org: 550 no such user): check mail.recipients" in error.message
    assert [outcome.status for outcome in error.outcomes] == ["rejected", "rejected"]


def test_all_recipients_put_off(mail_settings: SettingsFactory) -> None:
    """Guards that greylisting reads as "later", not as wrong addresses."""
    post = Post(at_rcpt={"ciso@example.org": "450 4.7.1 greylisted"})
    with run_post(post):
        error = failure(mail_settings(port=post.port, security="none"))
    assert "took no mail for now" in error.message
    assert "run the delivery again in a few minutes" in error.message
    assert error.outcomes[0].status == "failed"


def test_sender_refused(mail_settings: SettingsFactory) -> None:
    """Guards that a refused sender is told as such and not tried again for each recipient."""
    post = Post(at_mail={"ledger@example.org": "553 5.7.1 not your address"})
    with run_post(post):
        error = failure(mail_settings(port=post.port, security="none"), "a@example.org", "b@example.org")
    assert "refuses the sender ledger@example.org (553 5.7.1 not your address): set mail.sender" in error.message
    assert [outcome.status for outcome in error.outcomes] == ["failed", "failed"]
    assert post.transactions == 1


def test_server_that_wants_a_login(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """Guards the hint for missing credentials."""
    with starttls_post(auth_required=True) as post:
        error = failure(mail_settings(port=post.port))
    assert "wants a login or TLS before it takes mail" in error.message
    assert "mail.username and mail.password" in error.message


@pytest.mark.parametrize("limit", [5_000, None], ids=["announced", "told after the mail"])
def test_message_too_big(mail_settings: SettingsFactory, limit: int | None) -> None:
    """Guards the sentence for a size limit, whether the server announces it or only enforces it."""
    post = Post(at_data={} if limit else {"ciso@example.org": "552 5.3.4 message size exceeds limit"})
    with run_post(post, data_size_limit=limit):
        error = failure(mail_settings(port=post.port, security="none"))
    assert "is too big for" in error.message
    assert "set mail.attach_report to false" in error.message
    assert error.outcomes[0].status == "failed"
    assert post.transactions == (0 if limit else 1)


# --- the connection --------------------------------------------------------------------------------------------------


def test_refused_connection(mail_settings: SettingsFactory) -> None:
    """Guards the sentence for a port where nobody listens."""
    port = free_port()
    error = failure(mail_settings(port=port), "a@example.org", "b@example.org")
    assert f"localhost:{port} refuses the connection: check mail.host and mail.port" in error.message
    assert [outcome.status for outcome in error.outcomes] == ["failed", "failed"]


@pytest.mark.parametrize("host", ["mail.invalid", "a..b", "x" * 70 + ".example"])
def test_unknown_host(mail_settings: SettingsFactory, host: str) -> None:
    """Guards the sentence for a name that does not resolve, or is not even a name."""
    error = failure(mail_settings(host=host, port=587))
    assert f"The mail server '{host}' is not known: check mail.host" in error.message


def test_time_out(mail_settings: SettingsFactory) -> None:
    """Guards that a silent server ends the attempt after mail.timeout."""
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
    assert "port 465 speaks TLS from the start, set mail.security to tls" in error.message


def test_server_that_does_not_want_to_talk(mail_settings: SettingsFactory) -> None:
    """Guards the sentence for a greeting that refuses the client."""
    with run_script(b"554 5.7.1 your address is blocked\r\n") as port:
        error = failure(mail_settings(port=port))
    assert "does not want to talk (554 5.7.1 your address is blocked)" in error.message


def test_connection_closed_before_the_greeting(mail_settings: SettingsFactory) -> None:
    """Guards the sentence for a server that hangs up at once."""
    with run_script() as port:
        error = failure(mail_settings(port=port))
    assert "closed the connection before a mail was sent" in error.message


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_server_without_starttls(mail_settings: SettingsFactory) -> None:
    """Guards that nothing goes out in clear text when the server (or somebody between) offers no STARTTLS."""
    with run_post() as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "offers no STARTTLS, so nothing was sent" in error.message
    assert post.transactions == 0


def test_starttls_refused(mail_settings: SettingsFactory) -> None:
    """Guards that a refused STARTTLS is not followed by clear text."""
    with run_script(b"220 hi\r\n", b"250-mail\r\n250 STARTTLS\r\n", b"454 TLS not available\r\n") as port:
        error = failure(mail_settings(port=port, **LOGIN))
    assert "refuses to start it (454 TLS not available), so nothing was sent" in error.message


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("wrong", ["untrusted", "other host", "expired"])
def test_wrong_certificate(
    mail_settings: SettingsFactory, authority: Authority, stranger: Authority, security: str, wrong: str
) -> None:
    """Guards that certificate and host name are always verified, and that the reason is told apart."""
    context, says = {
        "untrusted": (stranger.server_context(), "that is not trusted ("),
        "other host": (authority.server_context("mail.example.org"), "a certificate for another host: set mail.host"),
        "expired": (authority.server_context(days=-2), "a certificate that has expired"),
    }[wrong]
    with run_post(starttls=context) if security == "starttls" else run_post(tls=context) as post:
        error = failure(mail_settings(port=post.port, security=security, **LOGIN))
    assert says in error.message
    if wrong == "untrusted":
        assert "set mail.ca_bundle" in error.message


def test_without_ca_bundle_the_system_decides(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """Guards that an unset ca_bundle means the system's authorities, not none."""
    with starttls_post() as post:
        settings = mail_settings(port=post.port).model_copy(update={"ca_bundle": None})
        error = failure(settings)
    assert "that is not trusted" in error.message


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("no certificate", "no PEM certificate")])
def test_unusable_ca_bundle(
    mail_settings: SettingsFactory, starttls_post: StartPost, tmp_path: Path, content: str | None, reason: str
) -> None:
    """Guards that a wrong ca_bundle is named instead of falling back to other authorities."""
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
    assert "does not speak TLS as expected" in error.message
    assert "starttls for port 587" in error.message


def test_a_password_is_never_sent_without_tls(mail_settings: SettingsFactory) -> None:
    """Guards the refusal, for settings that did not come through validation too."""
    with run_post(auth_require_tls=False) as post:
        login = mail_settings(**LOGIN)
        settings = login.model_copy(update={"security": "none", "port": post.port})
        error = failure(settings)
    assert "A password is never sent without TLS: set mail.security" in error.message
    assert post.sessions == set()


# --- the login -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", [[], ["PLAIN"]], ids=["plain", "login"])
def test_wrong_password(mail_settings: SettingsFactory, starttls_post: StartPost, exclude: list[str]) -> None:
    """Guards the sentence for a rejected login, which names the user and never the password."""
    with starttls_post(auth_exclude_mechanism=exclude) as post:
        error = failure(mail_settings(port=post.port, username="ledger", password="hunter2"))
    assert "rejects the login of ledger (code 535): check mail.username and mail.password" in error.message
    assert "hunter2" not in repr(error.outcomes) + error.message


def test_login_that_the_server_does_not_offer(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """Guards the sentence for credentials that the server has no use for."""
    with starttls_post(auth_exclude_mechanism=["PLAIN", "LOGIN"]) as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "offers no way to log in that works here" in error.message
    assert post.transactions == 0


def test_server_without_auth(mail_settings: SettingsFactory, authority: Authority) -> None:
    """Guards the sentence for credentials towards a server that knows no login at all."""
    with run_post(tls=authority.server_context(), auth_require_tls=True) as post:
        error = failure(mail_settings(port=post.port, security="tls", **LOGIN))
    assert "offers no login: remove mail.username and mail.password" in error.message


def test_password_outside_ascii_without_auth_plain(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """Guards that a password which cannot be sent is explained and not shown."""
    with starttls_post(auth_exclude_mechanism=["PLAIN"]) as post:
        error = failure(mail_settings(port=post.port, **LOGIN))
    assert "offers no AUTH PLAIN, which a user name or password outside ASCII needs" in error.message


# --- lost on the way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["abort", "silence"])
def test_lost_after_the_mail_was_handed_over(mail_settings: SettingsFactory, way: str) -> None:
    """Guards that a mail whose acceptance is unknown is called unknown and never sent a second time."""
    post = Post(at_data={"b@example.org": way})
    with run_post(post):
        settings = mail_settings(port=post.port, security="none", timeout=1)
        error = failure(settings, "a@example.org", "b@example.org", "c@example.org")
    assert [outcome.status for outcome in error.outcomes] == ["sent", "unknown", "failed"]
    assert "it may have arrived" in error.outcomes[1].detail
    assert "was lost after 1 of 3 mails were sent, that of b@example.org is unknown" in error.message
    assert [recipient for recipient, _ in post.delivered] == ["a@example.org", "b@example.org"]


@pytest.mark.parametrize("reply", ["abort", "421 4.3.2 shutting down"])
def test_lost_before_the_mail_was_handed_over(mail_settings: SettingsFactory, reply: str) -> None:
    """Guards that a mail which cannot have arrived is failed, so that the next call may send it."""
    post = Post(at_rcpt={"b@example.org": reply})
    with run_post(post):
        settings = mail_settings(port=post.port, security="none")
        error = failure(settings, "a@example.org", "b@example.org", "c@example.org")
    assert [outcome.status for outcome in error.outcomes] == ["sent", "failed", "failed"]
    assert "was lost after 1 of 3 mails were sent (" in error.message
    assert "run the delivery again to send the ones that are missing" in error.message


def test_only_mail_unknown_is_not_called_rejected(mail_settings: SettingsFactory) -> None:
    """Guards a single recipient whose answer is missing."""
    post = Post(at_data={"ciso@example.org": "abort"})
    with run_post(post):
        error = failure(mail_settings(port=post.port, security="none"))
    assert error.outcomes[0].status == "unknown"
    assert "lost after 0 of 1 mails" in error.message
