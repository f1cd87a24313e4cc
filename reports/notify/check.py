"""Checks the channels for `kmsledger doctor`: mail server or Amazon SES, webhooks, chats. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator

from models.diagnosis import Check, from_error, ok
from models.errors import UserError
from models.settings import MailSettings, Settings
from models.settings.delivery import ChatSettings, WebhookSettings
from reports.notify import chat
from reports.notify.result import DeliveryError
from reports.notify.smtp_connection import server_name, session


def check_channels(settings: Settings) -> list[Check]:
    """Return the checks of the channels that deliver reports."""
    return [
        *_mail(settings),
        *map(_webhook, settings.webhooks),
        *map(_chat, settings.chat),
    ]


def _mail(settings: Settings) -> Iterator[Check]:
    mail = settings.mail
    if mail is None:
        return
    if mail.host is None:
        from reports.notify.ses_check import check_ses  # boto3 is loaded only for SES

        yield from check_ses(mail, settings.aws)
    else:
        yield _mail_server(mail, mail.host)


def _mail_server(mail: MailSettings, host: str) -> Check:
    """Connect, start TLS, log in."""
    try:
        with session(mail):
            pass
    except DeliveryError as error:
        return from_error("mail", error)
    login = f", login as {mail.username}" if mail.username is not None else ""
    return ok("mail", f"{server_name(mail)}: {mail.security}{login}; nothing was sent", host)


def _webhook(webhook: WebhookSettings) -> Check:
    """Connect, also with TLS, and send no request."""
    from reports.notify.webhook import connection_error
    from reports.notify.webhook import server_name as receiver

    if cause := connection_error(webhook):
        return from_error("webhook", UserError(cause))
    tls = " with TLS" if webhook.url.startswith("https:") else ""
    return ok("webhook", f"{receiver(webhook)} can be reached{tls}; nothing was sent", webhook.name)


def _chat(settings: ChatSettings) -> Check:
    """Let Apprise read the address."""
    try:
        service = chat.service_of(settings)
    except chat.ChatError as error:
        return from_error("chat", error)
    return ok(
        "chat",
        f"Apprise knows the address of the chat {settings.name} ({service}), which is not tried: that needs a message",
        settings.name,
    )
