"""The settings of deliveries: who gets the report, and how."""

from __future__ import annotations

import string
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import InitErrorDetails

from models.settings.types import (
    AccountId,
    Address,
    FilePath,
    Flag,
    Group,
    Host,
    Password,
    Region,
    Text,
    Unset,
    Url,
    invalid,
    matching,
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


class SesSettings(Group):
    """Amazon SES instead of an SMTP server, with the credentials and connection settings of `aws`, also its region by default."""

    region: Annotated[Region | None, Unset] = None
    configuration_set: Annotated[Text | None, Unset] = None


Severity = Literal["critical", "high", "medium", "low", "info"]
_ROUTED = ("account", "ou", "owner", "vendor")


class RouteSettings(Group):
    """Recipients of the report about one account, organizational unit, owner or vendor instead of that about the organization.

    With ``severity``, they get it only if it has an open failure at or above this severity.
    """

    account: Annotated[AccountId | None, Unset] = None
    ou: Annotated[Text | None, Unset] = None
    owner: Annotated[Text | None, Unset] = None
    vendor: Annotated[Text | None, Unset] = None
    severity: Annotated[Severity | None, Unset] = None
    recipients: Annotated[tuple[Address, ...], Field(min_length=1)]

    @property
    def subject(self) -> tuple[str, str] | None:
        """Kind and name of what the report is about; None for the organization."""
        return next(((kind, getattr(self, kind)) for kind in _ROUTED if getattr(self, kind)), None)

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a route with several subjects, and one that differs in nothing from the recipients of all mails."""
        given = [name for name in _ROUTED if data.get(name)]
        if len(given) > 1 or not (given or data.get("severity")):
            yield validation_error(
                tuple(given[1:]), "one of account, ou, owner and vendor in each route, or a severity"
            )


class MailSettings(Group):
    """The mail with the report. `timeout` is in seconds; `subject` can contain {title}, {summary}, {status} and {date}.

    `recipients` get the report about the organization, those of `routes` only the report about an account or owner. With
    `only_changes`, a recipient of the previous run's report gets no mail about a run in which nothing changed.
    """

    renamed: ClassVar[Mapping[str, str]] = {"attach_report": "attachment"}

    host: Annotated[Host | None, Unset] = None
    ses: SesSettings | None = None
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
    routes: tuple[RouteSettings, ...] = ()

    @classmethod
    def contradictions(cls, data: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
        """Yield a mail without exactly one server, a user name without a password or the reverse, and duplicate recipients."""
        servers = [name for name in ("host", "ses") if data.get(name) not in (None, "")]
        if len(servers) != 1:
            yield validation_error(tuple(servers[1:]), "either host (SMTP) or ses (Amazon SES)")
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


def _webhook_url(value: Any) -> Any:
    parts = urlsplit(value)
    if value.isascii() and (parts.scheme == "https" or parts.hostname in {"localhost", "127.0.0.1", "::1"}):
        return value
    raise invalid("an https:// URL in ASCII; http:// is for receivers on this host")


def _webhook_secret(value: Any) -> Any:
    text = str(value.get_secret_value() if isinstance(value, SecretStr) else value)
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True)
        if text.startswith("whsec_") and 24 <= len(key) <= 64:
            return value
    except ValueError:
        pass  # not base64
    raise invalid("whsec_ followed by 24 to 64 random bytes in base64")


ChannelName = Annotated[str, matching(r"[A-Za-z0-9_.-]{1,60}", "1 to 60 letters, digits or characters from _.-")]


class WebhookSettings(Group):
    """A receiver of signed events about runs. `timeout` is in seconds, for each attempt; the URL may contain a secret."""

    name: ChannelName
    url: Annotated[Url, AfterValidator(_webhook_url), Field(repr=False)]
    secret: Annotated[SecretStr, BeforeValidator(_webhook_secret)]
    ca_bundle: Annotated[FilePath | None, Unset] = None
    timeout: Annotated[float, seconds(600)] = 30
    only_changes: Flag = False


class ChatSettings(Group):
    """A chat or another service that gets a short text about runs; `url` is its Apprise address, which contains secrets."""

    name: ChannelName
    url: Password
    only_changes: Flag = False
