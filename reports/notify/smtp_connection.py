"""One secured and logged-in SMTP connection, and one sentence with cause and fix for every way it can fail."""

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

# OpenSSL's X509_V_ERR_* numbers, as ssl.SSLCertVerificationError.verify_code gives them.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_HOST: Final = frozenset({62, 64})


@contextlib.contextmanager
def session(settings: MailSettings) -> Iterator[smtplib.SMTP]:
    """Connect, secure, log in; always close. Raises DeliveryError with cause and fix."""
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
        # Everything is answered for by now: a server that hangs up instead of saying goodbye changes nothing.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    finally:
        smtp.close()


def _connect(settings: MailSettings) -> smtplib.SMTP:
    host = settings.host.strip("[]")  # an IPv6 address may be written as in a URL
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
            f"{place(settings)} offers no STARTTLS, so nothing was sent: use the port of the server that does (587 as "
            "a rule), or set mail.security to tls if it speaks TLS from the start (port 465)."
        )
    try:
        smtp.starttls(context=context)
    except smtplib.SMTPResponseException as error:
        raise DeliveryError(
            f"{place(settings)} offers STARTTLS but refuses to start it ({quote(error.smtp_code, error.smtp_error)}), "
            "so nothing was sent: try again later, or ask the operator of the mail server."
        ) from error
    except OSError as error:
        raise DeliveryError(_connection_cause(error, settings)) from error


def _trust(settings: MailSettings) -> ssl.SSLContext:
    """Verify certificate and host name, always; `ca_bundle` replaces the authorities of the system."""
    bundle = settings.ca_bundle
    if bundle is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(bundle))
    except OSError as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no PEM certificate"
        raise DeliveryError(
            f"mail.ca_bundle {bundle} cannot be used ({reason}): name a readable file of PEM certificates."
        ) from error


def _log_in(smtp: smtplib.SMTP, settings: MailSettings, username: str, password: str) -> None:
    """Log in; the server's answer is not repeated except for its code, because it may echo what it was sent."""
    try:
        if "PLAIN" in smtp.esmtp_features.get("auth", "").upper().split():
            # smtplib would try CRAM-MD5 first and cannot encode a password outside ASCII. Here we are inside TLS.
            token = base64.b64encode(f"\0{username}\0{password}".encode()).decode("ascii")
            code, _ = smtp.docmd("AUTH", f"PLAIN {token}")
        else:
            code, _ = smtp.login(username, password)
    except smtplib.SMTPAuthenticationError as error:
        code = error.smtp_code
    except smtplib.SMTPNotSupportedError:
        raise DeliveryError(
            f"{place(settings)} offers no login: remove mail.username and mail.password, or use its submission port "
            "(587 or 465)."
        ) from None
    except UnicodeError:
        raise DeliveryError(
            f"{place(settings)} offers no AUTH PLAIN, which a user name or password outside ASCII needs: choose one of "
            "ASCII characters."
        ) from None
    except smtplib.SMTPServerDisconnected as error:
        raise DeliveryError(_connection_cause(error, settings)) from None
    except smtplib.SMTPException:
        raise DeliveryError(
            f"{place(settings)} offers no way to log in that works here: ask its operator for AUTH PLAIN or LOGIN."
        ) from None
    except OSError as error:
        raise DeliveryError(_connection_cause(error, settings)) from None
    if code == 235:
        return
    if 400 <= code < 500:
        raise DeliveryError(f"{place(settings)} cannot check the login at the moment (code {code}): try again later.")
    raise DeliveryError(
        f"{place(settings)} rejects the login of {clean(username)} (code {code}): check mail.username and "
        "mail.password; some providers want an app password."
    )


def _connection_cause(error: OSError | UnicodeError, settings: MailSettings) -> str:
    """Say in one sentence why there is no usable connection, and what to do."""
    server = place(settings)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_cause(error, settings)
    if isinstance(error, ssl.SSLError):
        return (
            f"{server} does not speak TLS as expected ({clean(error.reason or str(error))}): set mail.security to "
            "starttls for port 587 and to tls for port 465."
        )
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"The mail server {clean(settings.host)!r} is not known: check mail.host and the name resolution (DNS)."
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{server} refuses the connection: check mail.host and mail.port, and that the mail server runs and no "
            "firewall is between."
        )
    if isinstance(error, smtplib.SMTPConnectError | smtplib.SMTPHeloError):
        return (
            f"{server} does not want to talk ({quote(error.smtp_code, error.smtp_error)}): try again later, or "
            "ask its operator whether this machine may connect."
        )
    hint = "check mail.host and mail.port, and that no firewall is between"
    if settings.port == _IMPLICIT_TLS_PORT and settings.security != "tls":
        hint = "port 465 speaks TLS from the start, set mail.security to tls"
    if _timed_out(error):
        return f"{server} did not answer within {settings.timeout:g} seconds: {hint}."
    if isinstance(error, smtplib.SMTPServerDisconnected | ConnectionResetError | BrokenPipeError):
        return f"{server} closed the connection before a mail was sent: {hint}."
    return f"{server} cannot be reached ({cause(error)}): {hint}."


def _certificate_cause(error: ssl.SSLCertVerificationError, settings: MailSettings) -> str:
    server = place(settings)
    if error.verify_code in _OTHER_HOST:
        return (
            f"{server} shows a certificate for another host: set mail.host to a name in that certificate, or have the "
            "server's certificate replaced."
        )
    if error.verify_code == _EXPIRED:
        return f"{server} shows a certificate that has expired: have it renewed, or check this machine's clock."
    if error.verify_code == _NOT_YET_VALID:
        return f"{server} shows a certificate that is not valid yet: check this machine's clock."
    return (
        f"{server} shows a certificate that is not trusted ({clean(error.verify_message)}): set mail.ca_bundle to the "
        "certificates of the authority that issued it."
    )


def cause(error: OSError) -> str:
    """Say in a few words why a connection broke."""
    if _timed_out(error):
        return "no answer in time"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    return clean(error.strerror or str(error) or type(error).__name__)


def _timed_out(error: BaseException) -> bool:
    # smtplib hides a time-out of a read in its own SMTPServerDisconnected.
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


def place(settings: MailSettings) -> str:
    """Name the mail server at the start of a sentence."""
    return f"The mail server {clean(settings.host)}:{settings.port}"


def quote(code: int, reply: bytes | str) -> str:
    """Repeat what the server answered: code and text, on one line of bounded length."""
    text = clean(reply if isinstance(reply, str) else reply.decode("utf-8", "replace"))
    return f"{code} {text[:200]}".strip()
