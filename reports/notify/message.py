"""Composes the mail of a run as plain text and HTML, with the report attached if it fits.

Pure functions: a `Summary` in, a message out; no database, no network, and the clock only if no time is passed.
"""

import hashlib
import re
import textwrap
from collections.abc import Iterable
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
"""The maximum size of all attachments of a mail in bytes, base64 included; common servers reject more."""

_STATUS_LINE: Final[dict[Status, str]] = {
    "complete": "Complete: every account and region in scope was read.",
    "partial": "Incomplete coverage: a part of the scope could not be read. Where data is missing, no finding does not mean no "
    "problem.",
    "failed": "Failed: the run did not finish. The figures below, if any, are incomplete.",
}
_SEVERITIES: Final = frozenset(SEVERITIES)

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_LINK: Final = re.compile(r"\bhttp(s?)://", re.IGNORECASE)


@dataclass(frozen=True)
class AttentionItem:
    """One entry: a title and a text, or only a text. `where` is an ARN, or an account and region; a shell can run `commands`."""

    severity: str
    text: str
    where: str
    action: str = ""
    commands: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Summary:
    """The content of the mail about a run.

    The lists have the top entries only; the totals count all entries. `gaps` are the causes of missing data and are always
    shown. `status_changes` describes the status changes of findings since the previous run; it is empty if there are none, and
    None if there is no previous run to compare with. `finished_at` is timezone-aware.
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
    status_changes: str | None = None
    gaps: tuple[str, ...] = ()
    gaps_total: int = 0
    subject: tuple[str, ...] = ()
    """What matters most, for the subject."""
    all_attention: str = ""
    """The command that lists everything that needs attention."""


@dataclass(frozen=True)
class Attachment:
    """An attached file. `location` is the path or URL at which the same file is stored."""

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
    """The mail for one recipient: mixed > (alternative > plain, HTML), attachments.

    The Message-ID depends on run, sender and recipient only, so that mail systems recognize duplicates. Control and direction
    characters are removed from text that comes from AWS, its links are defanged (`hxxps://`, because mail clients create links
    from text), and it is escaped in HTML. An attachment that is disabled in `settings`, or that would exceed
    `ATTACHMENT_LIMIT`, is named in the body instead.
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
    # Quoted-printable keeps lines below the SMTP limit of 998 bytes and does not require 8BITMIME.
    message.set_content(_plain_text(view), cte="quoted-printable")
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
    """Parse `user@example.org` or `Name <user@example.org>`; the domain is converted to ASCII (IDNA).

    Raises ValueError for invalid addresses.
    """
    name, address = parseaddr(clean(text))
    user, _, domain = address.rpartition("@")
    if not user or not domain:
        raise ValueError(f"{clean(text)!r} is not a mail address: write user@example.org or Name <user@example.org>")
    return Address(display_name=name, username=user, domain=domain.encode("idna").decode("ascii"))


def clean(text: str) -> str:
    """The text as one printable line: white space becomes a space, control and direction characters become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", " ".join(text.split()))


@dataclass(frozen=True)
class _Section:
    """A list in the body: its entries, the number of omitted entries, and the text for an empty list."""

    title: str
    entries: tuple[AttentionItem, ...]
    more: int
    empty: str
    note: str = ""
    command: str = ""
    """Lists all entries."""


@dataclass(frozen=True)
class _View:
    """The cleaned content of the body, for plain text and HTML."""

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
        status_line = "Incomplete coverage: every account and region was read, but some data is missing (see Gaps)."
    complete = summary.status == "complete" and not gap_count
    could_be_read = "" if complete else " in what could be read"
    nothing_new = f"No new findings{could_be_read}."
    if summary.status_changes is None:
        nothing_new = "There is nothing to compare with: rules were not evaluated for an earlier run."
    no_gaps = "The run was not complete, but recorded no gaps: see the report and the log of the run."
    return _View(
        title=_text(summary.title),
        tone=tone,
        status_line=status_line,
        facts=f"Run {summary.run_id}, finished {finished:%Y-%m-%d %H:%M} UTC",
        headline=tuple((_text(label), _text(value)) for label, value in summary.headline),
        sections=(
            _section(
                "Needs attention",
                summary.attention,
                summary.attention_total,
                "Nothing needs attention." if complete else "Nothing in what could be read.",
                command=summary.all_attention,
            ),
            _section(
                "New findings",
                summary.new_findings,
                summary.new_findings_total,
                nothing_new,
                note=f"Since the previous run: {_text(summary.status_changes)}. Those of the situations above are not repeated."
                if summary.status_changes
                else "",
            ),
            _section(
                "Gaps",
                summary.gaps,
                gap_count,
                "There are no gaps." if summary.status == "complete" else no_gaps,
                note="Missing data and its causes. Unknown is never counted as passed." if summary.gaps else "",
            ),
            _section(
                "Changes since the previous run",
                summary.changes,
                summary.changes_total,
                f"No changes{could_be_read}.",
            ),
        ),
        notes=(*(f"Attached: {clean(name)}" for name in attached), *notes),
    )


def _section(
    title: str, entries: Iterable[AttentionItem | str], total: int, empty: str, *, note: str = "", command: str = ""
) -> _Section:
    items = (AttentionItem("", entry, "") if isinstance(entry, str) else entry for entry in entries)
    cleaned = tuple(
        AttentionItem(
            _text(item.severity),
            _text(item.text),
            _text(item.where),
            _text(item.action),
            tuple(map(_text, item.commands)),
            _text(item.title),
        )
        for item in items
    )
    return _Section(title, cleaned, max(0, total - len(cleaned)), empty, note, command)


def _text(text: str) -> str:
    return _LINK.sub(r"hxxp\1://", clean(text))


def _plain_text(view: _View) -> str:
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
            badge = f"[{entry.severity.upper()}]" if entry.severity else ""
            lines += _wrap(" ".join(filter(None, (badge, entry.title, entry.text))), first="* ", rest="  ")
            lines += _wrap(entry.where, first="  ", rest="  ") if entry.where else []
            lines += _wrap(entry.action, first="  > ", rest="    ") if entry.action else []
            lines += [f"    {command}" for command in entry.commands]  # unbroken, so that they can be copied
        if section.more:
            lines += _wrap(_more(section))
        elif not count:
            lines += _wrap(section.empty)
    if view.notes:
        lines.append("")
    for note in view.notes:
        lines += _wrap(note)
    lines += ["", "-- ", "Sent by kmsledger."]
    return "\n".join(lines) + "\n"


def _more(section: _Section) -> str:
    command = f", or run `{section.command}`" if section.command else ""
    return f"... and {section.more:,} more in the report{command}."


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    # ARNs are not broken, so that they can be searched and copied.
    return textwrap.wrap(
        text, 78, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _html(view: _View) -> str:
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False)
    return inliner.inline(_template().render(view=view, severities=_SEVERITIES, more=_more))


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
    text = pattern.format(
        title=summary.title,
        summary=" · ".join(summary.subject),
        status=summary.status,
        date=f"{summary.finished_at.astimezone(UTC):%Y-%m-%d}",
    )
    return clean(text)[:200]


def _message_id(summary: Summary, sender: Address, to: Address) -> str:
    # Includes the time of the run, because run IDs repeat across databases.
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
    """The attachments to send, and a note for each other attachment."""
    attached: list[Attachment] = []
    notes: list[str] = []
    room = ATTACHMENT_LIMIT
    for attachment in attachments:
        size = _wire_size(attachment.content)
        where = clean(attachment.location) or f"with the files of run {run_id} on the host that sent this mail"
        name = clean(attachment.filename)
        if not settings.attach_report:
            notes.append(f"{name} is not attached (mail.attach_report is false). It is here: {where}")
        elif size > room:
            notes.append(
                f"{name} is not attached: it needs {size / 1e6:.0f} MB, and {room / 1e6:.0f} MB are left of "
                f"{ATTACHMENT_LIMIT / 1e6:.0f} MB. It is here: {where}"
            )
        else:
            room -= size
            attached.append(attachment)
    return tuple(attached), tuple(notes)


def _wire_size(content: bytes) -> int:
    # base64 in lines of 76 characters (57 bytes) and CRLF.
    return -(-len(content) // 57) * 78
