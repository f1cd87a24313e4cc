"""Compose the mail of one run: the same facts as plain text and as HTML, with the report attached if it fits.

Nothing here reads a database, a clock (unless none is given) or the network: a `Summary` goes in, a message comes out.
"""

import hashlib
import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from pathlib import PurePosixPath
from typing import Final, Literal

import css_inline
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from models.settings import MailSettings
from models.severities import SEVERITIES

Status = Literal["complete", "partial", "failed"]

ATTACHMENT_LIMIT: Final = 25_000_000
"""Octets all attachments of one mail may take on the wire, base64 included; common servers refuse more."""

_STATUS_LINE: Final[dict[Status, str]] = {
    "complete": "Complete: every account and region in scope was read.",
    "partial": "Partial: some of the scope could not be read. Where it was not read, the absence of a finding proves "
    "nothing.",
    "failed": "Failed: the run did not finish. The figures below, if any, are what was known before it stopped.",
}
_SEVERITIES: Final = frozenset(SEVERITIES)

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_LINK: Final = re.compile(r"\bhttp(s?)://", re.IGNORECASE)


@dataclass(frozen=True)
class AttentionItem:
    """One thing somebody should look at. `where` names the place: an ARN, or an account and a region."""

    severity: str
    text: str
    where: str


@dataclass(frozen=True)
class Summary:
    """What the body of a mail says about one run.

    The lists hold the top entries only; the totals count all of them, so that the mail can say how many it leaves
    out. `gaps` are the reasons why something is not known and are always shown. `turned` says in words how the findings
    turned since the run before, is empty if none did, and None if there is nothing to compare with. `finished_at` is an
    aware time.
    """

    title: str
    status: Status
    run_id: int
    finished_at: datetime
    headline: tuple[tuple[str, str], ...] = ()
    attention: tuple[AttentionItem, ...] = ()
    attention_total: int = 0
    changes: tuple[str, ...] = ()
    changes_total: int = 0
    new_findings: tuple[AttentionItem, ...] = ()
    new_findings_total: int = 0
    turned: str | None = None
    gaps: tuple[str, ...] = ()
    gaps_total: int = 0


@dataclass(frozen=True)
class Attachment:
    """A file that goes with the mail. `location` is the path or address where the same file stays for later."""

    filename: str
    mime_type: str
    content: bytes
    location: str = ""


def compose(
    summary: Summary,
    settings: MailSettings,
    *,
    recipient: str,
    attachments: tuple[Attachment, ...] = (),
    now: datetime | None = None,
) -> EmailMessage:
    """Return the mail for one recipient: mixed > (alternative > plain, HTML), attachments.

    The Message-ID depends on run, sender and recipient only: a second mail for the same run carries the same one and
    mail systems recognise the duplicate. Text that came from AWS loses control and direction characters, its links
    are defanged (`hxxps://`, because mail clients turn text into links on their own), and is escaped in the HTML.
    An attachment that `settings` does not want, or that would exceed `ATTACHMENT_LIMIT`, is named in the body instead.
    """
    attached, notes = _choose(attachments, settings, summary.run_id)
    view = _view(summary, notes, tuple(attachment.filename for attachment in attached))
    sender, to = mailbox(settings.sender), mailbox(recipient)

    message = EmailMessage(policy=SMTP)
    message["Subject"] = _subject(summary, settings.subject)
    message["From"] = sender
    message["To"] = to
    message["Date"] = format_datetime(now or datetime.now(UTC))
    message["Message-ID"] = _message_id(summary, sender, to)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    # Quoted-printable: no line of an inlined table exceeds the 998 octets of SMTP, and no server needs 8BITMIME.
    message.set_content(_plain(view), cte="quoted-printable")
    message.add_alternative(_html(view), subtype="html", cte="quoted-printable")
    message.make_mixed()
    for attachment in attached:
        maintype, _, subtype = attachment.mime_type.partition(";")[0].strip().partition("/")
        message.add_attachment(
            attachment.content,
            maintype=maintype,
            subtype=subtype,
            filename=_filename(attachment.filename),
            params={"charset": "utf-8"} if maintype == "text" else None,
        )
    return message


def mailbox(text: str) -> Address:
    """Parse `user@example.org` or `Name <user@example.org>`; the domain is returned in its ASCII (IDNA) form.

    Raises ValueError for text that is no mail address.
    """
    name, address = parseaddr(clean(text))
    user, _, domain = address.rpartition("@")
    if not user or not domain:
        raise ValueError(f"{clean(text)!r} is not a mail address: write user@example.org or Name <user@example.org>")
    return Address(display_name=name, username=user, domain=domain.encode("idna").decode("ascii"))


def clean(text: str) -> str:
    """Make hostile text one printable line: white space becomes a space, control and direction marks become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


@dataclass(frozen=True)
class _Section:
    """A list of the body: its entries, how many it leaves out, and what to say when there is none."""

    title: str
    entries: tuple[AttentionItem, ...]
    more: int
    empty: str
    note: str = ""


@dataclass(frozen=True)
class _View:
    """The content of the body, cleaned once for both forms of it."""

    title: str
    tone: Status
    status_line: str
    facts: str
    headline: tuple[tuple[str, str], ...]
    sections: tuple[_Section, ...]
    notes: tuple[str, ...]


def _view(summary: Summary, notes: tuple[str, ...], attached: tuple[str, ...]) -> _View:
    finished = summary.finished_at.astimezone(UTC)
    gap_count = max(summary.gaps_total, len(summary.gaps))
    tone, status_line = summary.status, _STATUS_LINE[summary.status]
    if summary.status == "complete" and gap_count:
        tone = "partial"
        status_line = "Complete, with gaps: every scope was read, but not everything in it is known (see below)."
    attention, new = _items(summary.attention), _items(summary.new_findings)
    whole = summary.status == "complete" and not gap_count
    return _View(
        title=_text(summary.title),
        tone=tone,
        status_line=status_line,
        facts=f"Run {summary.run_id}, finished {finished:%Y-%m-%d %H:%M} UTC",
        headline=tuple((_text(label), _text(value)) for label, value in summary.headline),
        sections=(
            _Section(
                "Needs attention",
                attention,
                _more(summary.attention_total, attention),
                "Nothing needs attention." if whole else "No finding in what could be read.",
            ),
            _Section(
                "New findings",
                new,
                _more(summary.new_findings_total, new),
                _nothing_new(summary.turned, whole=whole),
                f"Since the run before: {_text(summary.turned)}." if summary.turned else "",
            ),
            _lines(
                "Not known",
                summary.gaps,
                gap_count,
                _no_gaps(summary.status),
                "Answers that are missing, and why. Not known is never counted as passed.",
            ),
            _lines(
                "Changed since the run before",
                summary.changes,
                summary.changes_total,
                "No change." if whole else "No change in what could be read.",
            ),
        ),
        notes=(*(f"Attached: {clean(name)}" for name in attached), *notes),
    )


def _items(items: tuple[AttentionItem, ...]) -> tuple[AttentionItem, ...]:
    return tuple(AttentionItem(_text(item.severity), _text(item.text), _text(item.where)) for item in items)


def _nothing_new(turned: str | None, *, whole: bool) -> str:
    if turned is None:
        return "There is nothing to compare with: no earlier run was judged."
    return "No new finding." if whole else "No new finding in what could be read."


def _no_gaps(status: Status) -> str:
    if status == "complete":
        return "Nothing: there are no gaps."
    return "The run was not complete, and it could not name what is missing: see the report and the log of the run."


def _lines(title: str, texts: tuple[str, ...], total: int, empty: str, note: str = "") -> _Section:
    entries = tuple(AttentionItem("", _text(text), "") for text in texts)
    return _Section(title, entries, _more(total, entries), empty, note if entries else "")


def _more(total: int, shown: tuple[object, ...]) -> int:
    return max(0, total - len(shown))


def _text(text: str) -> str:
    return _LINK.sub(r"hxxp\1://", clean(text))


def _plain(view: _View) -> str:
    rule = "=" * min(len(view.title), 78)
    lines = [view.title, rule, "", *_wrap(view.status_line), view.facts, ""]
    width = max((len(label) for label, _ in view.headline), default=0)
    lines += [f"{label + ':':<{width + 1}}  {value}" for label, value in view.headline]
    for section in view.sections:
        count = len(section.entries) + section.more
        heading = f"{section.title} ({count})" if count else section.title
        lines += ["", heading, "-" * len(heading)]
        lines += _wrap(section.note) if section.note else []
        for entry in section.entries:
            badge = f"[{entry.severity.upper()}] " if entry.severity else ""
            lines += _wrap(f"{badge}{entry.text}", first="* ", rest="  ")
            lines += _wrap(entry.where, first="  ", rest="  ") if entry.where else []
        if section.more:
            lines.append(f"... and {section.more:,} more in the report.")
        elif not count:
            lines += _wrap(section.empty)
    if view.notes:
        lines.append("")
    for note in view.notes:
        lines += _wrap(note)
    lines += ["", "-- ", "Sent by kmsledger."]
    return "\n".join(lines) + "\n"


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    # An ARN must stay in one piece to be found and copied.
    return textwrap.wrap(
        text, 78, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _html(view: _View) -> str:
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False)
    return inliner.inline(_template().render(view=view, severities=_SEVERITIES))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("mail.html.j2")


def _subject(summary: Summary, pattern: str) -> str:
    text = pattern.format(status=summary.status, date=f"{summary.finished_at.astimezone(UTC):%Y-%m-%d}")
    return clean(text)[:200]


def _message_id(summary: Summary, sender: Address, to: Address) -> str:
    # The time of the run is part of it: a second database with the same sender also has a run 1.
    key = "\n".join(
        (str(summary.run_id), summary.finished_at.astimezone(UTC).isoformat(), sender.addr_spec, to.addr_spec)
    )
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return f"<kmsledger.run-{summary.run_id}.{digest}@{sender.domain}>"


def _filename(name: str) -> str:
    return PurePosixPath(clean(name).replace("\\", "/")).name or "report"


def _choose(
    attachments: tuple[Attachment, ...], settings: MailSettings, run_id: int
) -> tuple[tuple[Attachment, ...], tuple[str, ...]]:
    """Split attachments into those that go with the mail and one sentence for each that stays behind."""
    attached: list[Attachment] = []
    notes: list[str] = []
    room = ATTACHMENT_LIMIT
    for attachment in attachments:
        size = _wire_size(attachment.content)
        where = clean(attachment.location) or f"with the files of run {run_id} on the machine that sent this"
        name = clean(attachment.filename)
        if not settings.attach_report:
            notes.append(f"{name} is not attached (mail.attach_report is off). It is here: {where}")
        elif size > room:
            notes.append(
                f"{name} is left out: it takes {size / 1e6:.0f} MB in a mail and {room / 1e6:.0f} MB are left of "
                f"{ATTACHMENT_LIMIT / 1e6:.0f}. It is here: {where}"
            )
        else:
            room -= size
            attached.append(attachment)
    return tuple(attached), tuple(notes)


def _wire_size(content: bytes) -> int:
    # base64 in lines of 76 characters (57 octets) and CRLF.
    return -(-len(content) // 57) * 78
