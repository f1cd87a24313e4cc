"""Sends a body to a receiver with libcurl: within a total time, without redirects, through the proxies of the environment."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pycurl

from models.safe_text import printable

_ANSWER_BYTES: Final = 4096

CONNECTION_TIMEOUT: Final = 5.0
"""Seconds that a connection without a request may take, unless the settings allow less."""


class NoAnswerError(Exception):
    """The receiver gave no status; the text is the rest of a sentence about it, with the fix and without the address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of a receiver, the beginning of its answer, and the address to which it redirects."""

    status: int
    body: bytes
    redirect: str | None


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, ca_bundle: Path | None, setting: str
) -> Answer:
    """Send a request once, in at most ``timeout`` seconds; ``setting`` is what the advice calls the URL."""
    answer = bytearray()

    def keep(chunk: bytes) -> None:
        answer.extend(chunk[: _ANSWER_BYTES - len(answer)])

    options = {
        pycurl.POSTFIELDS: body,
        pycurl.HTTPHEADER: [f"{name}: {value}" for name, value in {"expect": "", **headers}.items()],
        pycurl.WRITEFUNCTION: keep,
    }
    with _performed(url, options, timeout, ca_bundle, setting) as handle:
        return Answer(handle.getinfo(pycurl.RESPONSE_CODE), bytes(answer), handle.getinfo(pycurl.REDIRECT_URL))


def connect(url: str, *, timeout: float, ca_bundle: Path | None, setting: str) -> None:
    """Connect as for a request, through the same proxy and with TLS, and send nothing. Raises NoAnswerError."""
    with _performed(url, {pycurl.CONNECT_ONLY: 1}, min(timeout, CONNECTION_TIMEOUT), ca_bundle, setting):
        pass


@contextlib.contextmanager
def _performed(
    url: str, options: Mapping[int, Any], timeout: float, ca_bundle: Path | None, setting: str
) -> Iterator[pycurl.Curl]:
    """A handle whose transfer has ended, or at least has a status. Raises NoAnswerError."""
    # The trusted authorities are those of the settings, or those of the system as Python's TLS knows them.
    system = ssl.get_default_verify_paths()
    cafile, capath = (system.cafile, system.capath) if ca_bundle is None else (str(ca_bundle), None)
    common = {
        pycurl.URL: url,
        pycurl.USERAGENT: "kmsledger",
        pycurl.FOLLOWLOCATION: 0,
        pycurl.NOSIGNAL: 1,
        pycurl.TIMEOUT_MS: max(1, int(timeout * 1000)),
        pycurl.CAINFO: cafile,
        pycurl.CAPATH: capath,
    }
    with contextlib.closing(pycurl.Curl()) as handle:
        for option, value in {**common, **options}.items():
            if value is not None:
                handle.setopt(option, value)
        try:
            handle.perform()
        except pycurl.error as error:
            # The status decides, even if the rest of the answer never ends or its connection breaks.
            if handle.getinfo(pycurl.RESPONSE_CODE) < 200:
                raise NoAnswerError(_cause(error, timeout, setting)) from error
        yield handle


def _cause(error: pycurl.error, timeout: float, setting: str) -> str:
    number, text = cast("tuple[int, str]", error.args)
    text = printable(" ".join(text.split()))
    if number == pycurl.E_OPERATION_TIMEDOUT:
        return f"did not answer within {timeout:g} seconds: check {setting} and firewalls"
    if number == pycurl.E_COULDNT_RESOLVE_PROXY:
        return "cannot be reached, because its proxy could not be resolved: check https_proxy and DNS"
    if number == pycurl.E_COULDNT_RESOLVE_HOST:
        return f"could not be resolved: check {setting} and DNS"
    if number == pycurl.E_COULDNT_CONNECT:
        return f"refuses the connection: check {setting}, whether it is running, and firewalls"
    if number == pycurl.E_PEER_FAILED_VERIFICATION and "expired" in text:
        return "has an expired certificate: renew it, or check the clock of this host"
    if number in {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE}:
        return f"has a certificate that cannot be trusted ({text}): set its ca_bundle, or replace the certificate"
    return f"cannot be reached ({text}): check {setting} and firewalls"
