"""A secured, authenticated SMTP connection; every failure has a message with cause and fix."""

import base64
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from models.settings import MailSettings
from reports.notify.message import clean
from reports.notify.result import DeliveryError

_IMPLICIT_TLS_PORT: Final = 465

# OpenSSL's X509_V_ERR_* numbers, as in ssl.SSLCertVerificationError.verify_code.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_HOST: Final = frozenset({62, 64})


@contextlib.contextmanager
def session(settings: MailSettings) -> Iterator[smtplib.SMTP]:
    """Connect, start TLS, log in; always close. Raises DeliveryError with cause and fix."""
    password = settings.password.get_secret_value() if settings.password is not None else None
    if settings.security == "none" and password is not None:
        raise DeliveryError(
            "A password is never sent without TLS: set mail.security to starttls or tls, or remove mail.password."
        )
    smtp = _connect(settings)
    try:
        if settings.security == "starttls":
            _start_tls(smtp, settings)
        _greet(smtp, settings)
        if settings.username is not None and password is not None:
            _log_in(smtp, settings, settings.username, password)
        yield smtp
        # All outcomes are known by now, so errors on QUIT are ignored.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    finally:
        smtp.close()


def _connect(settings: MailSettings) -> smtplib.SMTP:
    host = _host(settings).strip("[]")  # an IPv6 address may be written as in a URL
    try:
        if settings.security == "tls":
            return smtplib.SMTP_SSL(host, settings.port, timeout=settings.timeout, context=_trust(settings))
        return smtplib.SMTP(host, settings.port, timeout=settings.timeout)
    except (OSError, UnicodeError) as error:
        raise DeliveryError(_connection_cause(error, settings)) from error


def _greet(smtp: smtplib.SMTP, settings: MailSettings) -> None:
    try:
        smtp.ehlo_or_helo_if_needed()
    except OSError as error:
        raise DeliveryError(_connection_cause(error, settings)) from error


def _start_tls(smtp: smtplib.SMTP, settings: MailSettings) -> None:
    context = _trust(settings)
    _greet(smtp, settings)
    if not smtp.has_extn("starttls"):
        raise DeliveryError(
            f"{server_name(settings)} does not offer STARTTLS, so nothing was sent: use the submission port (usually 587), "
            "or set mail.security to tls for implicit TLS (port 465)."
        )
    try:
        smtp.starttls(context=context)
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(
            f"{server_name(settings)} offers STARTTLS but rejects it ({quote(error.smtp_code, error.smtp_error)}), "
            "so nothing was sent: try again later, or ask the administrator of the mail server."
        ) from error
    except OSError as error:
        raise DeliveryError(_connection_cause(error, settings)) from error


def _trust(settings: MailSettings) -> ssl.SSLContext:
    """The TLS context; it verifies certificate and host name, with `ca_bundle` instead of the system's authorities if set."""
    bundle = settings.ca_bundle
    if bundle is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(bundle))
    except OSError as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it has no PEM certificate"
        raise DeliveryError(
            f"mail.ca_bundle {bundle} cannot be used ({reason}): specify a readable file of PEM certificates."
        ) from error


def _log_in(smtp: smtplib.SMTP, settings: MailSettings, username: str, password: str) -> None:
    """Log in. Messages include only the code of the server's reply, because its text may echo the credentials."""
    try:
        if "PLAIN" in smtp.esmtp_features.get("auth", "").upper().split():
            # smtplib would try CRAM-MD5 first, and cannot encode a password outside ASCII. The connection uses TLS.
            token = base64.b64encode(f"\0{username}\0{password}".encode()).decode("ascii")
            code, _ = smtp.docmd("AUTH", f"PLAIN {token}")
        else:
            code, _ = smtp.login(username, password)
    except smtplib.SMTPAuthenticationError as error:
        code = error.smtp_code
    except smtplib.SMTPNotSupportedError:
        raise DeliveryError(
            f"{server_name(settings)} does not offer authentication: remove mail.username and mail.password, or use its "
            "submission port (587 or 465)."
        ) from None
    except UnicodeError:
        raise DeliveryError(
            f"{server_name(settings)} does not offer AUTH PLAIN, which a user name or password outside ASCII requires: use "
            "ASCII characters only."
        ) from None
    except smtplib.SMTPServerDisconnected as error:
        raise DeliveryError(_connection_cause(error, settings)) from None
    except smtplib.SMTPException:
        raise DeliveryError(
            f"{server_name(settings)} offers no supported authentication method: ask its administrator to enable AUTH PLAIN or "
            "LOGIN."
        ) from None
    except OSError as error:
        raise DeliveryError(_connection_cause(error, settings)) from None
    if code == 235:
        return
    if 400 <= code < 500:
        raise DeliveryError(
            f"{server_name(settings)} cannot check the login at the moment (code {code}): try again later."
        )
    raise DeliveryError(
        f"{server_name(settings)} rejects the login of {clean(username)} (code {code}): check mail.username and "
        "mail.password; some providers require an app password."
    )


def _connection_cause(error: OSError | UnicodeError, settings: MailSettings) -> str:
    """The cause of a failed connection and the fix, in one sentence."""
    server = server_name(settings)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_cause(error, settings)
    if isinstance(error, ssl.SSLError):
        return (
            f"{server} does not use TLS as expected ({clean(error.reason or str(error))}): set mail.security to "
            "starttls for port 587 and to tls for port 465."
        )
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"The mail server {clean(_host(settings))!r} could not be resolved: check mail.host and DNS."
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{server} refuses the connection: check mail.host and mail.port, whether the mail server is running, "
            "and firewalls."
        )
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPHeloError):
        return (
            f"{server} rejects the connection ({quote(error.smtp_code, error.smtp_error)}): try again later, or "
            "ask its administrator whether this host may connect."
        )
    hint = "check mail.host, mail.port and firewalls"
    if settings.port == _IMPLICIT_TLS_PORT and settings.security != "tls":
        hint = "port 465 uses implicit TLS, set mail.security to tls"
    if _timed_out(error):
        return f"{server} did not answer within {settings.timeout:g} seconds: {hint}."
    if isinstance(error, smtplib.SMTPServerDisconnected | ConnectionResetError | BrokenPipeError):
        return f"{server} closed the connection before a mail was sent: {hint}."
    return f"{server} cannot be reached ({cause(error)}): {hint}."


def _certificate_cause(error: ssl.SSLCertVerificationError, settings: MailSettings) -> str:
    server = server_name(settings)
    if error.verify_code in _OTHER_HOST:
        return (
            f"{server} has a certificate for another host: set mail.host to a name in that certificate, or replace "
            "the certificate."
        )
    if error.verify_code == _EXPIRED:
        return f"{server} has an expired certificate: renew it, or check the clock of this host."
    if error.verify_code == _NOT_YET_VALID:
        return f"{server} has a certificate that is not valid yet: check the clock of this host."
    return (
        f"{server} has an untrusted certificate ({clean(error.verify_message)}): set mail.ca_bundle to the "
        "certificates of its issuer."
    )


def cause(error: OSError) -> str:
    """Why a connection broke, in a few words."""
    if _timed_out(error):
        return "timeout"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    return clean(error.strerror or str(error) or type(error).__name__)


def _timed_out(error: BaseException) -> bool:
    # smtplib wraps a read timeout in SMTPServerDisconnected.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def _host(settings: MailSettings) -> str:
    if settings.host is None:
        raise DeliveryError("mail.host is not set: set it, or mail.ses.")
    return settings.host


def server_name(settings: MailSettings) -> str:
    """The mail server, as the subject of a sentence."""
    return f"The mail server {clean(_host(settings))}:{settings.port}"


def quote(code: int, reply: bytes | str) -> str:
    """The server's reply: code and text, on one line of limited length."""
    text = clean(reply if isinstance(reply, str) else reply.decode("utf-8", "replace"))
    return f"{code} {text[:200]}".strip()
