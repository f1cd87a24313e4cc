"""Sending against a real mail server: deliveries and errors."""

import email
import email.policy
import secrets

import pytest

from reports.notify.message import Attachment, compose
from reports.notify.result import Outcome
from reports.notify.sender import send
from tests.reports.notify.conftest import Authority, Post, SettingsFactory, free_port, run_post, run_script
from tests.reports.notify.smtp_helpers import EHLO, LOGIN, StartPost, composer, deliver, failure, failure_with_outcomes
from tests.reports.notify.test_message import SUMMARY, flat

# --- delivery --------------------------------------------------------------------------------------------------------


def test_starttls_with_login_delivers_one_mail_a_recipient(
    mail_settings: SettingsFactory, starttls_post: StartPost
) -> None:
    """Delivery uses TLS, a login with a non-ASCII password, one connection, and one mail per recipient."""
    with starttls_post(auth_required=True) as post:
        outcomes, reported = deliver(mail_settings(port=post.port, **LOGIN), "ciso@example.org", "audit@example.org")
    assert [(outcome.recipient, outcome.status) for outcome in outcomes] == [
        ("ciso@example.org", "sent"),
        ("audit@example.org", "sent"),
    ]
    assert reported == outcomes
    assert len(post.sessions) == 1
    for recipient, content in post.delivered:
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        assert parsed["To"] == recipient
        assert (
            parsed["Subject"]
            == "[kmsledger] KMS ledger of Example Corp: 2 keys will be deleted within 7 days · 14 new findings"
        )


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
        send(["ciso@example.org"], lambda _to, _limit: message, settings.model_copy(update={"port": post.port}))
    assert post.delivered[0][1].endswith(b"first\r\n.\r\n..two\r\nlast\r\n")


def test_a_name_beside_the_address_is_not_part_of_the_envelope(mail_settings: SettingsFactory) -> None:
    """The envelope holds the bare address, with its domain in ASCII."""
    with run_post() as post:
        outcomes, _ = deliver(mail_settings(port=post.port, security="none"), "Jörg <joerg@bücher.example>")
    assert outcomes[0].recipient == "Jörg <joerg@bücher.example>"
    assert post.delivered[0][0] == "joerg@xn--bcher-kva.example"


@pytest.mark.parametrize(("smtputf8", "status"), [(True, "sent"), (False, "rejected")])
def test_an_address_outside_ascii_needs_smtputf8(mail_settings: SettingsFactory, smtputf8: bool, status: str) -> None:
    """Guards international addresses: sent if the server supports them, otherwise only that recipient is rejected."""
    with run_post(enable_SMTPUTF8=smtputf8) as post:
        settings = mail_settings(port=post.port, security="none")
        outcomes, _ = deliver(settings, "jörg@example.org", "ciso@example.org")
    assert [outcome.status for outcome in outcomes] == [status, "sent"]


def test_no_mails_open_no_connection(mail_settings: SettingsFactory) -> None:
    """A run with nothing to send does not connect to the mail server."""
    settings = mail_settings(port=free_port())
    assert send([], composer(settings), settings) == []


def test_a_server_that_hangs_up_at_goodbye_changes_nothing(mail_settings: SettingsFactory) -> None:
    """A mail stays sent when only QUIT fails."""
    with run_script(b"220 hi\r\n", EHLO, b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 queued\r\n") as port:
        outcomes, _ = deliver(mail_settings(port=port, security="none"))
    assert outcomes == [Outcome("ciso@example.org", "sent", "250 queued")]


def test_outcome_is_reported_before_the_next_mail(mail_settings: SettingsFactory) -> None:
    """A caller can commit each outcome, and its own error stops the sending."""
    with run_post() as post:
        settings = mail_settings(port=post.port, security="none")
        seen: list[int] = []

        def commit(outcome: Outcome) -> None:
            seen.append(post.transactions)
            if outcome.recipient == "b@example.org":
                raise RuntimeError("database is gone")

        with pytest.raises(RuntimeError, match="database is gone"):
            send(["a@example.org", "b@example.org", "c@x.org"], composer(settings), settings, commit)
    assert seen == [1, 2]
    assert len(post.delivered) == 2


# --- single recipients -----------------------------------------------------------------------------------------------


def test_a_rejected_recipient_does_not_stop_the_others(mail_settings: SettingsFactory) -> None:
    """Each recipient has its own outcome: rejected permanently, temporarily or for its content, and accepted."""
    post = Post(
        at_rcpt={"gone@example.org": "550 5.1.1 no such user", "grey@example.org": "450 4.7.1 come back later"},
        at_data={
            "filter@example.org": "554 5.7.1 looks like\x1b[31m spam",
            "full@example.org": "552 5.2.2 mailbox full",
        },
    )
    with run_post(post):
        outcomes, reported = deliver(
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
    assert reported == outcomes
    assert [recipient for recipient, _ in post.delivered] == ["ciso@example.org"]


def test_all_recipients_rejected(mail_settings: SettingsFactory) -> None:
    """If every recipient is rejected, the error names them and the setting."""
    post = Post(at_rcpt={"a@example.org": "550 no such user", "b@example.org": "550 no such user"})
    with run_post(post):
        error, outcomes = failure_with_outcomes(
            mail_settings(port=post.port, security="none"), "a@example.org", "b@example.org"
        )
    assert "rejects all 2 recipients (a@example.org: 550 no such user): check mail.recipients" in error.message
    assert [outcome.status for outcome in outcomes] == ["rejected", "rejected"]


def test_all_recipients_put_off(mail_settings: SettingsFactory) -> None:
    """Greylisting reads as "later", not as wrong addresses."""
    post = Post(at_rcpt={"ciso@example.org": "450 4.7.1 greylisted"})
    with run_post(post):
        error, outcomes = failure_with_outcomes(mail_settings(port=post.port, security="none"))
    assert "accepts no mail at the moment" in error.message
    assert "run the delivery again in a few minutes" in error.message
    assert outcomes[0].status == "failed"


def test_sender_refused(mail_settings: SettingsFactory) -> None:
    """A rejected sender is reported once and not retried for each recipient."""
    post = Post(at_mail={"ledger@example.org": "553 5.7.1 not your address"})
    with run_post(post):
        error, outcomes = failure_with_outcomes(
            mail_settings(port=post.port, security="none"), "a@example.org", "b@example.org"
        )
    assert "rejects the sender ledger@example.org (553 5.7.1 not your address): set mail.sender" in error.message
    assert [outcome.status for outcome in outcomes] == ["failed", "failed"]
    assert post.transactions == 1


def test_server_that_wants_a_login(mail_settings: SettingsFactory, starttls_post: StartPost) -> None:
    """Guards the hint for missing credentials."""
    with starttls_post(auth_required=True) as post:
        error = failure(mail_settings(port=post.port))
    assert "requires a login or TLS" in error.message
    assert "mail.username and mail.password" in error.message


@pytest.mark.parametrize("limit", [5_000, None], ids=["announced", "enforced after the mail"])
def test_message_too_big(mail_settings: SettingsFactory, limit: int | None) -> None:
    """A mail without attachments that is too large is an error that names the limit, whether announced or only enforced."""
    post = Post(at_data={} if limit else {"ciso@example.org": "552 5.3.4 message size exceeds limit"})
    with run_post(post, data_size_limit=limit):
        error, outcomes = failure_with_outcomes(mail_settings(port=post.port, security="none"))
    assert "is too large for" in error.message
    assert "even without attachments" in error.message
    assert outcomes[0].status == "failed"
    assert post.transactions == (0 if limit else 1)


@pytest.mark.parametrize(
    ("announced", "size", "attached"),
    [(True, 40_000, ["report.html"]), (True, 400_000, ["report.html.zip"]), (True, 0, []), (False, 400_000, [])],
    ids=["fits", "as ZIP file", "not even as ZIP file", "limit not announced"],
)
def test_attachment_that_is_too_large_for_the_server(
    mail_settings: SettingsFactory, announced: bool, size: int, attached: list[str]
) -> None:
    """The mail arrives with as much of the attachment as the server takes, and says where the rest is (RFC 1870)."""
    content = bytes(size) or secrets.token_bytes(400_000)
    report = Attachment("report.html", "text/html", content, "/srv/kmsledger/report.html")
    post = Post(largest=100_000)
    with run_post(post, data_size_limit=100_000 if announced else None) as post:
        settings = mail_settings(port=post.port, security="none")
        outcomes = send(["ciso@example.org"], composer(settings, SUMMARY, report), settings)
    assert [outcome.status for outcome in outcomes] == ["sent"]
    [(_, delivered)] = post.delivered
    parsed = email.message_from_bytes(delivered, policy=email.policy.default)
    assert [part.get_filename() for part in parsed.iter_attachments()] == attached
    body = parsed.get_body(("plain",))
    assert body is not None
    assert ("It is here: /srv/kmsledger/report.html" in flat(body.get_content())) == (not attached)


def test_a_recipient_that_is_claimed_elsewhere_is_left_out(mail_settings: SettingsFactory) -> None:
    """Guards two processes that deliver the same report: each recipient is claimed directly before its mail."""
    claimed: list[str] = []

    def claim(recipient: str) -> bool:
        claimed.append(recipient)
        return recipient != "b@example.org"

    with run_post() as post:
        settings = mail_settings(port=post.port, security="none")
        outcomes = send(["a@example.org", "b@example.org"], composer(settings), settings, lambda _: None, claim)
    assert [outcome.recipient for outcome in outcomes] == ["a@example.org"]
    assert claimed == ["a@example.org", "b@example.org"]
    assert [recipient for recipient, _ in post.delivered] == ["a@example.org"]


# --- lost on the way -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["abort", "silence"])
def test_lost_after_the_mail_was_handed_over(mail_settings: SettingsFactory, way: str) -> None:
    """A mail whose acceptance is unknown is reported as unknown and never sent again."""
    post = Post(at_data={"b@example.org": way})
    with run_post(post):
        settings = mail_settings(port=post.port, security="none", timeout=1)
        error, outcomes = failure_with_outcomes(settings, "a@example.org", "b@example.org", "c@example.org")
    assert [outcome.status for outcome in outcomes] == ["sent", "unknown", "failed"]
    assert "it may have arrived" in outcomes[1].detail
    assert "was lost after 1 of 3 mails were sent, the mail to b@example.org is unknown" in error.message
    assert [recipient for recipient, _ in post.delivered] == ["a@example.org", "b@example.org"]


@pytest.mark.parametrize("reply", ["abort", "421 4.3.2 shutting down"])
def test_lost_before_the_mail_was_handed_over(mail_settings: SettingsFactory, reply: str) -> None:
    """A mail which cannot have arrived is failed, so that the next call may send it."""
    post = Post(at_rcpt={"b@example.org": reply})
    with run_post(post):
        settings = mail_settings(port=post.port, security="none")
        error, outcomes = failure_with_outcomes(settings, "a@example.org", "b@example.org", "c@example.org")
    assert [outcome.status for outcome in outcomes] == ["sent", "failed", "failed"]
    assert "was lost after 1 of 3 mails were sent (" in error.message
    assert "run the delivery again to send the missing mails" in error.message


def test_only_mail_unknown_is_not_called_rejected(mail_settings: SettingsFactory) -> None:
    """Guards a single recipient whose answer is missing."""
    post = Post(at_data={"ciso@example.org": "abort"})
    with run_post(post):
        error, outcomes = failure_with_outcomes(mail_settings(port=post.port, security="none"))
    assert outcomes[0].status == "unknown"
    assert "lost after 0 of 1 mails" in error.message
