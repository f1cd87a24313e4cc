"""Sends a short text about a run to chats and other services through Apprise (extra `chat`)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from models.errors import UserError
from models.settings.delivery import ChatSettings
from reports.notify.message import STATUS_LINE, AttentionItem, Summary, readable
from reports.notify.result import Outcome

if TYPE_CHECKING:
    import apprise

FIRST: Final = 3
"""The number of situations in a text."""
_LONGEST: Final = 300

_MARKUP: Final = str.maketrans(
    {"<": "\u2039", ">": "\u203a", "[": "(", "]": ")", "@": "\uff20", "`": "'", "*": "\u2217"}
)
"""Mentions, links and markup in the languages of chats, and what looks like them."""
_HTTP_ERROR: Final = re.compile(r"error=(\d{3})\b")


class ChatError(UserError):
    """The chats in the settings cannot be used."""

    exit_code = 2


def check(chats: Sequence[ChatSettings]) -> None:
    """Raise ChatError if Apprise is not installed or does not know the address of a chat."""
    for chat in chats:
        _service(chat)


def service_of(chat: ChatSettings) -> str:
    """The name of the service that Apprise would use; raises ChatError as `check` does. Nothing is called."""
    service = _service(chat)
    with _log():
        return ", ".join(dict.fromkeys(str(plugin.service_name) for plugin in service))


def post(chat: ChatSettings, subject: str, body: str, recipient: str) -> Outcome:
    """Send a text once.

    Apprise only says whether the service accepted a message. Without an HTTP status, whether it arrived is unknown.
    """
    service = _service(chat)
    with _log() as lines:
        accepted = bool(
            service.notify(title=subject.translate(_MARKUP), body=body.translate(_MARKUP), body_format="text")
        )
    if accepted:
        return Outcome(recipient, "sent", "")
    reason = " ".join(_masked(line, chat) for line in lines) or "Apprise gives no reason"
    error = _HTTP_ERROR.search(reason)
    if error is None:
        return Outcome(recipient, "unknown", f"the text may have arrived: {reason}")
    retry = error[1] == "429" or error[1].startswith("5")
    return Outcome(recipient, "failed" if retry else "rejected", reason)


def title(content: Summary) -> str:
    """The first line: the title of the report, and what matters most."""
    return _plain(f"{content.title}: {' · '.join(content.subject)}")


def text(content: Summary) -> str:
    """The most urgent situations, what is missing, and where the report is."""
    shown = content.attention[:FIRST]
    more = max(content.attention_total, len(content.attention)) - len(shown)
    gaps = max(content.gaps_total, len(content.gaps))
    lines = [_plain(STATUS_LINE[content.status]), *map(_line, shown)]
    lines += [f"... and {more:,} more situations"] if more and shown else []
    lines += [] if content.is_evaluated else ["The rules were not evaluated, so what needs action is unknown."]
    lines += [f"Missing data: {gaps:,} causes, first: {_plain(content.gaps[0])}"] if content.gaps else []
    lines += [f"Report: {content.report_url}"] if content.report_url else []
    return "\n".join(lines)


def _line(item: AttentionItem) -> str:
    return _plain(f"{item.severity.upper()}: {item.title or item.text}")


def _plain(value: str) -> str:
    value = readable(value).translate(_MARKUP)
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"


def _service(chat: ChatSettings) -> apprise.Apprise:
    try:
        with _log():
            import apprise
    except ModuleNotFoundError as error:
        raise ChatError("chat needs the extra `chat`: pip install 'kmsledger[chat]'") from error
    with _log():
        service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="kmsledger", app_desc="kmsledger", app_url=""))
        known = service.add(chat.url.get_secret_value())
    if not known:
        raise ChatError(f"the url of the chat {chat.name} is no address that Apprise knows: see docs/delivery.md")
    return service


@contextmanager
def _log() -> Iterator[list[str]]:
    """The warnings of Apprise. Nothing of it and of its HTTP client is logged, because they log addresses with secrets."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.propagate = False
    loggers[0].addHandler(handler)
    try:
        yield lines
    finally:
        loggers[0].removeHandler(handler)
        for logger, value in zip(loggers, propagated, strict=True):
            logger.propagate = value


def _masked(line: str, chat: ChatSettings) -> str:
    """A line of Apprise's log without the parts of the address that can be secrets."""
    for part in re.split(r"[^\w-]+", chat.url.get_secret_value()):
        if len(part) > 5:
            line = line.replace(part, "(hidden)")
    return _plain(line)
