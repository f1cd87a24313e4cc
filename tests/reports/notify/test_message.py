"""The composed mail: structure, both bodies, headers, attachments, hostile text."""

import dataclasses
import datetime as dt
import email
import email.policy
import io
import re
import secrets
import zipfile
from email.message import EmailMessage
from typing import Any

import pytest

from reports.notify.message import (
    ATTACHMENT_LIMIT,
    BODY_LIMIT,
    Attachment,
    AttentionItem,
    Status,
    Summary,
    clean,
    compose,
    mailbox,
)
from reports.notify.trend import TrendPoint
from tests.reports.notify.conftest import SettingsFactory

ARN = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
SUMMARY = Summary(
    title="KMS ledger of Example Corp",
    status="partial",
    run_id=42,
    finished_at=dt.datetime(2026, 11, 20, 2, 41, tzinfo=dt.UTC),
    headline=(("Keys", "1,284"), ("Accounts read", "117 of 120")),
    attention=(
        AttentionItem(
            "critical", "Key that encrypts 14 resources is pending deletion", ARN, "Cancel it.", ("aws kms x",)
        ),
        AttentionItem("low", "Schlüssel für Prüfung has no owner", "444455556666 eu-west-1"),
    ),
    attention_total=31,
    changes=("Grant created for role/reader",),
    changes_total=12,
    gaps=("Account 222233334444: role cannot be assumed",),
    gaps_total=3,
    subject=("2 keys will be deleted within 7 days", "14 new findings"),
    all_attention="kmsledger cookbook situations",
)
URL = "https://reports.example.org/kms/kmsledger-overview-run42.html"
REPORT = Attachment("report.html", "text/html", b"<p>all of it</p>", "/srv/kmsledger/report.html")


def bodies(message: EmailMessage) -> tuple[str, str]:
    """The plain and the HTML body as a mail client decodes them from the wire."""
    parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    plain, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert plain is not None
    assert html is not None
    return plain.get_content(), html.get_content()


def flat(text: str) -> str:
    """The text without tags and line breaks, to find sentences however they are wrapped."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def summary(**changes: Any) -> Summary:
    return dataclasses.replace(SUMMARY, **changes)


def test_structure_is_mixed_of_alternative_and_attachment(mail_settings: SettingsFactory) -> None:
    """Guards the order that mail clients need: the body first, plain before HTML, then the files."""
    message = compose(SUMMARY, mail_settings(), recipient="ciso@example.org", attachments=(REPORT,))
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/html",
    ]
    [attached] = message.iter_attachments()
    assert attached.get_filename() == "report.html"
    assert attached.get_content().strip() == "<p>all of it</p>"


@pytest.mark.parametrize("form", [0, 1], ids=["plain", "html"])
def test_both_bodies_say_everything(mail_settings: SettingsFactory, form: int) -> None:
    """Neither form leaves out a figure, a finding, its resource, a change, a gap or a count of the rest."""
    text = flat(bodies(compose(SUMMARY, mail_settings(), recipient="ciso@example.org", attachments=(REPORT,)))[form])
    for part in (
        "KMS ledger of Example Corp",
        "Incomplete coverage: a part of the scope could not be read",
        "Run 42, finished 2026-11-20 02:41 UTC",
        "1,284",
        "Accounts read",
        "Act today (31)",
        ARN,
        "Schlüssel für Prüfung has no owner",
        "Cancel it.",
        "aws kms x",
        "and 29 more in the report, or run `kmsledger cookbook situations`",
        "Changes since the previous run (12)",
        "Grant created for role/reader",
        "and 11 more",
        "Gaps (3)",
        "Account 222233334444: role cannot be assumed",
        "and 2 more",
        "Attached: report.html",
    ):
        assert part in text
    assert "CRITICAL" in text.upper()


def test_html_needs_nothing_from_elsewhere(mail_settings: SettingsFactory) -> None:
    """The body is readable in a mail client: inlined styles, tables, no script, no request."""
    _, html = bodies(compose(SUMMARY, mail_settings(), recipient="ciso@example.org"))
    assert "<style" not in html
    assert 'style="' in html
    assert "max-width: 640px" in html
    for foreign in ("<script", "<img", "<link", "src=", "href=", "url(", "http://", "https://"):
        assert foreign not in html.lower()


# What Apple Mail, Gmail, Outlook, Yahoo and Samsung Email support according to caniemail.com (npm package 2.0.2, 2026-11).
# max-width and word-break only improve what is readable without them; letter-spacing and line-height may differ a little.
ELEMENTS = {
    "html", "head", "meta", "title", "body", "div", "table", "tbody", "tr", "td", "h1", "h2", "p", "strong", "span", "a", "br",
    "img",
}  # fmt: skip
PROPERTIES = re.compile(
    r"(margin|padding|border|background-color|color|font|text-align|text-transform|text-decoration|vertical-align|line-height"
    r"|letter-spacing|width|height|display)(-(top|right|bottom|left|color|collapse|family|size|weight))*|max-width|word-break"
)


def test_html_uses_what_mail_clients_support(mail_settings: SettingsFactory) -> None:
    """The HTML has only elements and CSS properties of the list above, no CSS functions, and presentational tables."""
    content = summary(report_url=URL, trend=(TrendPoint(41, 2, 0), TrendPoint(42, 1, 0)))
    _, html = bodies(compose(content, mail_settings(), recipient="ciso@example.org"))
    markup = re.sub(r"<!--.*?-->", "", html, flags=re.DOTALL)
    assert set(re.findall(r"<([a-z0-9]+)", markup)) <= ELEMENTS
    declarations = [
        part for style in re.findall(r'style="([^"]*)"', markup) for part in style.split(";") if part.strip()
    ]
    assert [part for part in declarations if not PROPERTIES.fullmatch(part.partition(":")[0].strip())] == []
    assert not re.search(r"calc\(|var\(|flex|grid|position", markup)
    assert markup.count("<table") == markup.count('role="presentation"')


def test_the_report_is_linked_where_it_is_published(mail_settings: SettingsFactory) -> None:
    """With report.base_url, both bodies link the report, and the title of each entry its place in the report."""
    item = AttentionItem("high", "text", "where", title="Key <x> is going.", anchor='k-"1')
    message = compose(summary(report_url=URL, attention=(item,)), mail_settings(), recipient="ciso@example.org")
    plain, html = bodies(message)
    assert f"Report: {URL}" in plain.splitlines()
    assert set(re.findall(r'href="([^"]*)"', html)) == {URL, f"{URL}#k-%221"}
    assert "Key &lt;x&gt; is going.</a>" in html


def test_the_preheader_adds_to_the_subject(mail_settings: SettingsFactory) -> None:
    """Mail clients show the first text after the subject: the most urgent entry and the coverage, hidden in the body."""
    message = compose(
        summary(headline=(("Accounts read", "117 of 120"),)), mail_settings(), recipient="ciso@example.org"
    )
    _, html = bodies(message)
    first = re.search(r"<body[^>]*>\s*<div([^>]*)>([^<]*)</div>", html)
    assert first is not None
    assert "display: none" in first[1]
    assert first[2] == "Key that encrypts 14 resources is pending deletion · Accounts read: 117 of 120"


def test_the_trend_is_a_picture_in_the_mail(mail_settings: SettingsFactory) -> None:
    """The HTML shows a picture that the mail contains, both bodies have its numbers, and it is no attachment (RFC 2387)."""
    trend = (TrendPoint(40, 1200, 3), TrendPoint(41, 0, 0), TrendPoint(42, 463, 1))
    message = compose(summary(trend=trend), mail_settings(), recipient="ciso@example.org", attachments=(REPORT,))
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/html",
    ]
    assert [part.get_filename() for part in message.iter_attachments()] == ["report.html"]
    (picture,) = (part for part in message.walk() if part.get_content_type() == "image/png")
    _, html = bodies(message)
    assert re.findall(r'src="([^"]*)"', html) == [f"cid:{picture['Content-ID'].strip('<>')}"]
    sentence = "Findings from run 40 to run 42 (3 runs): 1,200 to 463 fail, 3 to 1 unknown."
    assert 'alt="Trend of the findings"' in html
    for text in map(flat, bodies(message)):
        assert sentence in text
    only = compose(summary(trend=trend[:1]), mail_settings(), recipient="ciso@example.org")
    assert "multipart/related" not in {part.get_content_type() for part in only.walk()}, "one run has no trend"


@pytest.mark.parametrize("length", [900, 6000])
def test_html_is_never_clipped(mail_settings: SettingsFactory, length: int) -> None:
    """Gmail hides what exceeds 102 KB of HTML: longer bodies have fewer entries and shortened texts, and say so."""
    text = "ü<" * (length // 2)
    item = AttentionItem("high", text, text, text, (f"aws kms x {text}",) * 3, text)
    content = summary(
        title=text, attention=(item,) * 10, attention_total=31, changes=(text,) * 10, changes_total=10, gaps=(text,) * 10,
        gaps_total=3, new_findings=(item,) * 3, new_findings_total=3,
    )  # fmt: skip
    plain, html = bodies(compose(content, mail_settings(), recipient="ciso@example.org"))
    assert len(html.encode()) <= BODY_LIMIT
    for heading, total in (("Act today", 31), ("Changes since the previous run", 10), ("Gaps", 10)):
        assert f"{heading} ({total})" in plain
        section = plain.partition(f"{heading} (")[2].partition("\n---")[2]
        shown = len(re.findall(r"^\* ", re.split(r"\n\n", section)[0], re.MULTILINE))
        assert f"... and {total - shown} more in the report" in plain or shown == total
    assert "… (shortened)" in plain or length < 1000


def test_hostile_text_stays_text(mail_settings: SettingsFactory) -> None:
    """Text from AWS adds no markup, no line, no direction change and no link to either body."""
    hostile = "<img src=x onerror=alert(1)>\r\nGaps\n---\n{{ 7*7 }} \u202etxt.exe HTTPS://evil.example/login \ud800"
    item = AttentionItem("high\n<b>", hostile, hostile, hostile, (hostile,))
    message = compose(
        summary(title=hostile, headline=((hostile, hostile),), attention=(item,), changes=(hostile,), gaps=(hostile,)),
        mail_settings(),
        recipient="ciso@example.org",
    )
    plain, html = bodies(message)
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;img" in html
    assert plain.count("\nGaps") == 1
    assert "{{ 7*7 }}" in plain
    for text in (plain, html):
        assert "\u202e" not in text
        assert "https://evil" not in text.lower()
        assert "hxxps://evil.example" in text.lower()


@pytest.mark.parametrize(
    ("status", "gaps", "says", "says_not"),
    [
        ("complete", (), ["Nothing needs action.", "There are no gaps", "No changes."], ["could be read"]),
        (
            "complete",
            ("x",),
            ["Incomplete coverage: every account and region was read", "Nothing in what could be read"],
            ["Nothing needs action"],
        ),
        ("partial", (), ["but recorded no gaps"], ["There are no gaps", "Nothing needs action"]),
        ("failed", (), ["Failed: the run did not finish"], ["There are no gaps", "No changes."]),
    ],
)
def test_absence_is_only_good_news_when_all_was_read(
    mail_settings: SettingsFactory, status: Status, gaps: tuple[str, ...], says: list[str], says_not: list[str]
) -> None:
    """An empty list never reads as a pass when part of the scope is not known."""
    empty = Summary("Ledger", status, 1, SUMMARY.finished_at, gaps=gaps, gaps_total=len(gaps))
    for text in map(flat, bodies(compose(empty, mail_settings(), recipient="ciso@example.org"))):
        assert all(part in text for part in says)
        assert not any(part in text for part in says_not)


def test_before_the_first_evaluation_nothing_is_calm(mail_settings: SettingsFactory) -> None:
    """Without results of rules, it is unknown what needs action."""
    early = Summary("Ledger", "complete", 1, SUMMARY.finished_at, is_evaluated=False)
    for text in map(flat, bodies(compose(early, mail_settings(), recipient="ciso@example.org"))):
        assert "Unknown: the rules were not evaluated yet." in text
        assert "Nothing needs action" not in text


def test_headers_of_an_automatic_mail(mail_settings: SettingsFactory) -> None:
    """Guards From, To, Date and the mark that keeps out-of-office replies away."""
    settings = mail_settings(subject="Ledger {{EU}}: {status}, {date}")
    now = dt.datetime(2026, 11, 20, 3, tzinfo=dt.UTC)
    message = compose(SUMMARY, settings, recipient="Jörg Ä <joerg@bücher.example>", now=now)
    assert message["Subject"] == "Ledger {EU}: partial, 2026-11-20"
    assert message["From"] == "ledger@example.org"
    assert message["To"].addresses[0].addr_spec == "joerg@xn--bcher-kva.example"
    assert message["To"].addresses[0].display_name == "Jörg Ä"
    assert message["Date"].datetime == now
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Id"] == "kmsledger overview <overview.kmsledger.example.org>"
    assert message.as_bytes().isascii()


def test_mails_about_a_report_are_one_thread(mail_settings: SettingsFactory) -> None:
    """The mails of all runs refer to one Message-ID per report and recipient (RFC 5322, 3.6.4)."""

    def references(run: Summary, recipient: str = "ciso@example.org") -> str:
        return str(compose(run, mail_settings(), recipient=recipient)["References"])

    first = references(SUMMARY)
    assert re.fullmatch(r"<kmsledger\.overview\.[0-9a-f]{32}@example\.org>", first)
    assert references(summary(run_id=43, subject=("no new finding",))) == first
    assert len({first, references(summary(report="compliance")), references(SUMMARY, "audit@example.org")}) == 3


def test_message_id_tells_runs_and_recipients_apart(mail_settings: SettingsFactory) -> None:
    """A resend is recognized as the same mail, and nothing else is."""

    def message_id(run: Summary, recipient: str) -> str:
        return str(compose(run, mail_settings(), recipient=recipient)["Message-ID"])

    first = message_id(SUMMARY, "ciso@example.org")
    assert first == message_id(summary(title="other"), "ciso@example.org")
    assert re.fullmatch(r"<kmsledger\.run-42\.[0-9a-f]{32}@example\.org>", first)
    others = {
        message_id(SUMMARY, "audit@example.org"),
        message_id(summary(run_id=43), "ciso@example.org"),
        message_id(summary(finished_at=SUMMARY.finished_at + dt.timedelta(days=1)), "ciso@example.org"),
    }
    assert len(others | {first}) == 4


@pytest.mark.parametrize("header", ["Message-ID", "References", "List-Id"])
def test_long_domain_does_not_break_an_identifier(mail_settings: SettingsFactory, header: str) -> None:
    """Folding leaves an identifier readable that is longer than a line, on the wire too: it is never an encoded word."""
    sender = f"ledger@{'subdomain.' * 8}example.org"
    message = compose(SUMMARY, mail_settings(sender=sender), recipient="ciso@example.org")
    wire = message.as_bytes()
    parsed = email.message_from_bytes(wire, policy=email.policy.default)
    assert str(parsed[header]).strip() == str(message[header])
    identifier = str(message[header]).rpartition(" ")[2].encode()
    assert identifier in wire


def test_subject_cannot_add_headers(mail_settings: SettingsFactory) -> None:
    """Guards against header injection, for settings that were not validated."""
    settings = mail_settings().model_copy(update={"subject": "Ledger\r\nBcc: eve@evil.example\r\n\r\nbody Ü {date}"})
    message = compose(SUMMARY, settings, recipient="ciso@example.org")
    parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert parsed["Bcc"] is None
    assert parsed["Subject"] == "Ledger Bcc: eve@evil.example body Ü 2026-11-20"


def test_report_over_the_limit_is_named_instead(mail_settings: SettingsFactory) -> None:
    """A report too big for mail servers, even compressed, is left out and its location named; a small one is still attached."""
    big = Attachment("big.html", "text/html", secrets.token_bytes(ATTACHMENT_LIMIT * 3 // 4), "/srv/kmsledger/big.html")
    message = compose(SUMMARY, mail_settings(), recipient="ciso@example.org", attachments=(big, REPORT))
    assert [part.get_filename() for part in message.iter_attachments()] == ["report.html"]
    for text in map(flat, bodies(message)):
        assert "big.html is not attached" in text
        assert "It is here: /srv/kmsledger/big.html" in text


@pytest.mark.parametrize(
    ("attachment", "size"), [("html", ATTACHMENT_LIMIT), ("zip", 100)], ids=["too large", "configured"]
)
def test_report_is_compressed(mail_settings: SettingsFactory, attachment: str, size: int) -> None:
    """A report that only fits compressed, or with attachment: zip, is a ZIP file with the report, and the body names it."""
    content = bytes(size)
    large = Attachment("report.html", "text/html", content, "/srv/kmsledger/report.html")
    settings = mail_settings(attachment=attachment)
    message = compose(SUMMARY, settings, recipient="ciso@example.org", attachments=(large,))
    [part] = message.iter_attachments()
    assert (part.get_filename(), part.get_content_type()) == ("report.html.zip", "application/zip")
    with zipfile.ZipFile(io.BytesIO(part.get_content())) as archive:
        assert archive.namelist() == ["report.html"]
        assert archive.read("report.html") == content
    for text in map(flat, bodies(message)):
        assert "Attached: report.html.zip" in text


def test_report_just_under_the_limit_is_attached_and_fits(mail_settings: SettingsFactory) -> None:
    """Guards the computed size: what is attached really takes at most the limit on the wire."""
    fitting = Attachment("report.html", "text/html", bytes(ATTACHMENT_LIMIT // 78 * 57), "")
    message = compose(SUMMARY, mail_settings(), recipient="ciso@example.org", attachments=(fitting,))
    [attached] = message.iter_attachments()
    assert ATTACHMENT_LIMIT - 100 < len(attached.as_bytes().partition(b"\r\n\r\n")[2]) <= ATTACHMENT_LIMIT


def test_report_is_not_attached_when_switched_off(mail_settings: SettingsFactory) -> None:
    """Guards mail.attachment: none."""
    settings = mail_settings(attachment="none")
    message = compose(SUMMARY, settings, recipient="ciso@example.org", attachments=(REPORT,))
    assert message.get_content_type() == "multipart/mixed"
    assert list(message.iter_attachments()) == []
    assert "It is here: /srv/kmsledger/report.html" in flat(bodies(message)[0])


def test_attachment_name_has_no_path(mail_settings: SettingsFactory) -> None:
    """Guards against a file name that leads a mail client elsewhere."""
    sly = dataclasses.replace(REPORT, filename="..\\..\\a/../Prüf\r\nbericht.html")
    message = compose(SUMMARY, mail_settings(), recipient="ciso@example.org", attachments=(sly,))
    parsed = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert [part.get_filename() for part in parsed.iter_attachments()] == ["Prüf bericht.html"]


def test_no_line_is_longer_than_smtp_allows(mail_settings: SettingsFactory) -> None:
    """Guards the 998 octets of a line, whatever the length of a name."""
    message = compose(summary(changes=("x" * 5000,)), mail_settings(), recipient="ciso@example.org")
    assert max(map(len, message.as_bytes().split(b"\r\n"))) <= 998


def test_clean_keeps_one_printable_line() -> None:
    """White space folds into spaces and control characters show as replacement characters."""
    assert clean(" a\r\n\tb\u2028c\x1b[31m\u200bü ") == "a b c\ufffd[31m\ufffdü"


@pytest.mark.parametrize("text", ["", "nobody", "@example.org", "user@", "a@b..c"])
def test_mailbox_rejects_what_is_no_address(text: str) -> None:
    """An unusable address is an error of its own and never an empty recipient."""
    with pytest.raises(ValueError, match=r"."):
        mailbox(text)
