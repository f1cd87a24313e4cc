"""Composes the mail of a run as plain text and HTML, with the report attached if it fits.

Pure functions: a `Summary` in, a message out; no database, no network, and the clock only if no time is passed.
"""

import hashlib
import io
import re
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from email.utils import format_datetime, parseaddr
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Final, Literal

import css_inline
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from models.settings import MailSettings
from models.severities import SEVERITIES
from reports.notify.trend import TrendPoint, describe, draw

Compose = Callable[[str, int], EmailMessage]
"""Composes the mail for a recipient, with attachments of at most so many bytes."""

Status = Literal["complete", "partial", "failed"]

ATTACHMENT_LIMIT: Final = 25_000_000
"""The maximum size of all attachments of a mail in bytes, base64 included; common servers reject more."""
PICTURE: Final = "trend@kmsledger"
"""The Content-ID of the picture of the trend."""
BODY_LIMIT: Final = 102_000
"""The maximum size of the HTML in bytes: Gmail hides the rest of a longer body."""
TEXT_LIMIT: Final = 1000
"""The maximum number of characters of a text in the body, commands excepted."""

STATUS_LINE: Final[dict[Status, str]] = {
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
    """One entry: a title and a text, or only a text. `where` is an ARN, or an account and region; a shell can run `commands`.

    `anchor` is the place of the entry in the report.
    """

    severity: str
    text: str
    where: str
    action: str = ""
    commands: tuple[str, ...] = ()
    title: str = ""
    anchor: str = ""


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
    is_evaluated: bool = True
    """Whether rules were evaluated for the run; otherwise it is unknown what needs action."""
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
    report: str = "overview"
    """The report that the mail is about."""
    report_url: str = ""
    """Where readers find the report."""
    trend: tuple[TrendPoint, ...] = ()
    """The findings of the last runs, the latest last."""
    unchanged_since: int | None = None
    """The previous run, if nothing has changed since; None if something has, or if there is nothing to compare with."""


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
    limit: int = ATTACHMENT_LIMIT,
    resend: bool = False,
) -> EmailMessage:
    """The mail for one recipient: mixed > (alternative > plain, HTML or related > HTML, picture), attachments.

    The Message-ID depends on report, run, sender and recipient only, so that mail systems recognize duplicates; with `resend`
    it is a new one, because they hide duplicates. All mails about a report refer to one thread, and carry its List-Id. Control
    and direction characters are removed from text that comes from AWS, its links are defanged (`hxxps://`, because mail clients
    create links from text), and it is escaped in HTML. An attachment that would exceed `limit` is compressed; one that still
    exceeds it, or is disabled in `settings`, is named in the body instead.
    """
    attached, notes = _choose(attachments, settings, summary.run_id, limit)
    picture = draw(summary.trend) if len(summary.trend) > 1 else b""
    view, html = _bodies(summary, (*(f"Attached: {clean(item.filename)}" for item in attached), *notes))
    sender, to = mailbox(settings.sender), mailbox(recipient)
    now = now or datetime.now(UTC)

    message = EmailMessage(policy=_POLICY)
    message["Subject"] = _subject(summary, settings.subject)
    message["From"] = sender
    message["To"] = to
    message["Date"] = format_datetime(now)
    message["Message-ID"] = _message_id(summary, sender, to, now.isoformat() if resend else "")
    message["References"] = f"<kmsledger.{summary.report}.{digest(sender.addr_spec, to.addr_spec)}@{sender.domain}>"
    message["List-Id"] = f"kmsledger {summary.report} <{summary.report}.kmsledger.{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    # Quoted-printable keeps lines below the SMTP limit of 998 bytes and does not require 8BITMIME.
    message.set_content(_plain_text(view), cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    if picture:
        _, html_part = message.iter_parts()
        html_part.add_related(picture, "image", "png", cid=f"<{PICTURE}>", disposition="inline", filename="trend.png")
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


class _Identifier(UnstructuredHeader, BaseHeader):
    """A header that is not folded: an identifier longer than a line would become encoded words."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
for _name in ("References", "List-Id"):
    _HEADERS.map_to_type(_name, _Identifier)
_POLICY: Final = SMTP.clone(header_factory=_HEADERS)


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
    preheader: str
    """What mail clients show after the subject."""
    trend: str
    report_url: str


def _bodies(summary: Summary, notes: tuple[str, ...]) -> tuple[_View, str]:
    """The content and its HTML, with so many entries per section that the HTML does not exceed `BODY_LIMIT`."""
    for most in (100, 10, 5, 2, 0):
        view = _view(summary, notes, most)
        html = _html(view)
        if len(html.encode()) <= BODY_LIMIT:
            break
    return view, html


def _view(summary: Summary, notes: tuple[str, ...], most: int) -> _View:
    finished = summary.finished_at.astimezone(UTC)
    gap_count = max(summary.gaps_total, len(summary.gaps))
    tone, status_line = summary.status, STATUS_LINE[summary.status]
    if summary.status == "complete" and gap_count:
        tone = "partial"
        status_line = "Incomplete coverage: every account and region was read, but some data is missing (see Gaps)."
    complete = summary.status == "complete" and not gap_count
    could_be_read = "" if complete else " in what could be read"
    nothing_new = f"No new findings{could_be_read}."
    if summary.status_changes is None:
        nothing_new = "There is nothing to compare with: rules were not evaluated for an earlier run."
    section = partial(_section, most)
    calm = "Nothing needs action." if complete else "Nothing in what could be read."
    no_gaps = "The run was not complete, but recorded no gaps: see the report and the log of the run."
    return _View(
        title=_text(summary.title),
        tone=tone,
        status_line=status_line,
        facts=f"Run {summary.run_id}, finished {finished:%Y-%m-%d %H:%M} UTC",
        headline=tuple((_text(label), _text(value)) for label, value in summary.headline),
        sections=(
            section(
                "Act today",
                summary.attention,
                summary.attention_total,
                calm if summary.is_evaluated else "Unknown: the rules were not evaluated yet.",
                command=summary.all_attention,
            ),
            section(
                "New findings",
                summary.new_findings,
                summary.new_findings_total,
                nothing_new,
                note=f"Since the previous run: {_text(summary.status_changes)}. Those of the situations above are not repeated."
                if summary.status_changes
                else "",
            ),
            section(
                "Gaps",
                summary.gaps,
                gap_count,
                "There are no gaps." if summary.status == "complete" else no_gaps,
                note="Missing data and its causes. Unknown is never counted as passed." if summary.gaps else "",
            ),
            section(
                "Changes since the previous run",
                summary.changes,
                summary.changes_total,
                f"No changes{could_be_read}.",
            ),
        ),
        notes=notes,
        preheader=_preheader(summary),
        trend=describe(summary.trend) if len(summary.trend) > 1 else "",
        report_url=summary.report_url,
    )


def _preheader(summary: Summary) -> str:
    """The most urgent entry and the first key figure: the subject already has the numbers."""
    first = [" ".join(filter(None, (item.title, item.text))) for item in summary.attention[:1]]
    figures = [f"{label}: {value}" for label, value in summary.headline[:1]]
    return " · ".join(map(_text, (*first, *figures)))[:200]


def _section(
    most: int,
    title: str,
    entries: Sequence[AttentionItem | str],
    total: int,
    empty: str,
    *,
    note: str = "",
    command: str = "",
) -> _Section:
    """A section with the first entries, at most `most`."""
    items = (AttentionItem("", entry, "") if isinstance(entry, str) else entry for entry in entries[:most])
    cleaned = tuple(
        AttentionItem(
            _text(item.severity),
            _text(item.text),
            _text(item.where),
            _text(item.action),
            tuple(map(readable, item.commands)),
            _text(item.title),
            item.anchor,
        )
        for item in items
    )
    return _Section(title, cleaned, max(total, len(entries)) - len(cleaned), empty, note, command)


def _text(text: str) -> str:
    text = readable(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}… (shortened)"


def readable(text: str) -> str:
    """The text as one printable line, with defanged links."""
    return _LINK.sub(r"hxxp\1://", clean(text))


def _plain_text(view: _View) -> str:
    rule = "=" * min(len(view.title), 78)
    lines = [view.title, rule, "", *_wrap(view.status_line), view.facts, ""]
    if view.report_url:
        lines += [f"Report: {view.report_url}", ""]
    width = max((len(label) for label, _ in view.headline), default=0)
    lines += [f"{label + ':':<{width + 1}}  {value}" for label, value in view.headline]
    lines += ["", *_wrap(view.trend)] if view.trend else []
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
    return inliner.inline(_template().render(view=view, severities=_SEVERITIES, more=_more, picture=PICTURE))


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


def _message_id(summary: Summary, sender: Address, to: Address, attempt: str) -> str:
    # Includes the time of the run, because run IDs repeat across databases.
    finished = summary.finished_at.astimezone(UTC).isoformat()
    hashed = digest(summary.report, str(summary.run_id), finished, sender.addr_spec, to.addr_spec, attempt)
    return f"<kmsledger.run-{summary.run_id}.{hashed}@{sender.domain}>"


def digest(*parts: str) -> str:
    """A hash of texts, for IDs."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _filename(name: str) -> str:
    return PurePosixPath(clean(name).replace("\\", "/")).name or "report"


def _choose(
    attachments: tuple[Attachment, ...], settings: MailSettings, run_id: int, limit: int
) -> tuple[tuple[Attachment, ...], tuple[str, ...]]:
    """The attachments to send, and a note for each other attachment."""
    attached: list[Attachment] = []
    notes: list[str] = []
    room = limit
    for attachment in attachments:
        name = clean(attachment.filename)
        where = clean(attachment.location) or f"with the files of run {run_id} on the host that sent this mail"
        if settings.attachment == "none":
            notes.append(f"{name} is not attached (mail.attachment is none). It is here: {where}")
            continue
        sent = attachment
        if settings.attachment == "zip" or _wire_size(sent.content) > room:
            sent = _zipped(attachment)
        size = _wire_size(sent.content)
        if size > room:
            notes.append(
                f"{name} is not attached: as a ZIP file it needs {size / 1e6:.1f} MB, and the mail has room for "
                f"{room / 1e6:.1f} MB. It is here: {where}"
            )
        else:
            room -= size
            attached.append(sent)
    return tuple(attached), tuple(notes)


def _zipped(attachment: Attachment) -> Attachment:
    """The attachment in a ZIP file; the same content gives the same bytes."""
    name = _filename(attachment.filename)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), attachment.content, zipfile.ZIP_DEFLATED)
    return Attachment(f"{name}.zip", "application/zip", packed.getvalue(), attachment.location)


def _wire_size(content: bytes) -> int:
    # base64 in lines of 76 characters (57 bytes) and CRLF.
    return -(-len(content) // 57) * 78
