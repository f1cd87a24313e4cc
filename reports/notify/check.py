"""Checks the mail server for `kmsledger doctor`: connect, TLS, login. Nothing is sent."""

from __future__ import annotations

from models.diagnosis import Check, from_error, ok
from models.settings import Settings
from reports.notify.result import DeliveryError
from reports.notify.smtp_connection import server_name, session


def check_channels(settings: Settings) -> list[Check]:
    """Return the checks of the channels that deliver reports."""
    mail = settings.mail
    if mail is None:
        return []
    if mail.host is None:
        return [ok("mail", "Amazon SES is not tried without a mail: `kmsledger mail` sends the report of the last run")]
    try:
        with session(mail):
            pass
    except DeliveryError as error:
        return [from_error("mail", error)]
    login = f", login as {mail.username}" if mail.username is not None else ""
    return [ok("mail", f"{server_name(mail)}: {mail.security}{login}; nothing was sent", mail.host)]
