"""The settings of deliveries: who gets the report, and how."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import InitErrorDetails

from models.settings.types import (
    Address,
    FilePath,
    Flag,
    Group,
    Host,
    Password,
    Text,
    Unset,
    invalid,
    seconds,
    validation_error,
    whole,
)


def _subject(value: Any) -> Any:
    try:
        if isinstance(value, str) and value and not any(character in value for character in "\n\r\0"):
            fields = string.Formatter().parse(value)
            if all(
                name is None or (name in {"title", "summary", "status", "date"} and not (form or kind))
                for _, name, form, kind in fields
            ):
                return value
    except ValueError:
        pass  # a brace without its counterpart
    raise invalid("a text on one line whose only placeholders are {title}, {summary}, {status} and {date}")


class MailSettings(Group):
    """The mail with the report. `timeout` is in seconds; `subject` can contain {title}, {summary}, {status} and {date}.

    With `only_changes`, a recipient of the previous run's report gets no mail about a run in which nothing changed.
    """

    renamed: ClassVar[Mapping[str, str]] = {"attach_report": "attachment"}

    host: Host
    port: Annotated[int, whole(1, 65_535, "TCP port")] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Annotated[Text | None, Unset] = None
    password: Annotated[Password | None, Unset] = None
    ca_bundle: Annotated[FilePath | None, Unset] = None
    timeout: Annotated[float, seconds(600)] = 30
    sender: Address
    recipients: Annotated[tuple[Address, ...], Field(min_length=1)]
    subject: Annotated[str, BeforeValidator(_subject)] = "[kmsledger] {title}: {summary}"
    attachment: Literal["html", "zip", "none"] = "html"
    only_changes: Flag = False

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a user name without a password or the reverse, and duplicate recipients."""
        if data.get("username") and not data.get("password"):
            yield validation_error(("username",), "a password together with the user name")
        if data.get("password") and not data.get("username"):
            yield validation_error(("password",), "a user name together with the password")
        recipients = data.get("recipients")
        seen: set[str] = set()
        for index, item in enumerate(recipients if isinstance(recipients, list | tuple) else ()):
            if isinstance(item, str) and item.casefold() in seen:
                yield validation_error(("recipients", index), "each recipient once")
            seen.add(str(item).casefold())
