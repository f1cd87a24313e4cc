"""Delivers the summary of a run to a webhook: JSON over HTTPS, signed as in the specification Standard Webhooks 1.0."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlsplit

from models.settings.delivery import WebhookSettings
from reports import http_post
from reports.notify.message import AttentionItem, Summary, clean, digest
from reports.notify.result import Outcome

RETRY_DELAYS: Final = (1.0, 5.0, 25.0)
"""Seconds before each retry. A receiver recognizes a repeated event by its ID, so a retry is always safe."""

_REPEATED_STATUSES: Final = frozenset({408, 425, 429})
_ANSWER_BYTES: Final = 200


def post(
    settings: WebhookSettings,
    content: Summary,
    recipient: str,
    *,
    resend: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Send the event, with retries after connection failures, 408, 425, 429 and 5xx; redirects are not followed."""
    event = _event_id(content, recipient, str(time.time_ns()) if resend else "")
    return send(settings, payload(content), event, recipient, sleep=sleep)


def send(
    settings: WebhookSettings, body: bytes, event: str, recipient: str, *, sleep: Callable[[float], None] = time.sleep
) -> Outcome:
    """Send an event with an ID, with retries."""
    for delay in (*RETRY_DELAYS, None):
        outcome = _attempt(settings, body, event, recipient)
        if outcome.status != "failed" or delay is None:
            return outcome
        sleep(delay)
    raise AssertionError("the last attempt returns its outcome")


def payload(content: Summary) -> bytes:
    """The event as JSON. Lists have their first entries and the number of all; text from AWS is unchanged."""
    finished = content.finished_at.astimezone(UTC).isoformat()
    data = {
        "report": content.report,
        "report_url": content.report_url or None,
        "title": content.title,
        "run_id": content.run_id,
        "status": content.status,
        "finished_at": finished,
        "unchanged_since_run": content.unchanged_since,
        "summary": content.subject,
        "figures": dict(content.headline),
        "trend": [asdict(point) for point in content.trend],
        "rules_evaluated": content.is_evaluated,
        "situations": _listed(content.attention_total, [_entry(item, content) for item in content.attention]),
        "new_findings": _listed(content.new_findings_total, [_entry(item, content) for item in content.new_findings]),
        "status_changes": content.status_changes,
        "changes": _listed(content.changes_total, content.changes),
        "gaps": _listed(content.gaps_total, content.gaps),
    }
    return json.dumps({"type": "kmsledger.report", "timestamp": finished, "data": data}).encode()


def signature(secret: str, event: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 of ID, timestamp and body with the key that the secret encodes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _listed(total: int, entries: Any) -> dict[str, Any]:
    return {"total": max(total, len(entries)), "first": entries}


def _entry(item: AttentionItem, content: Summary) -> dict[str, Any]:
    entry = asdict(item)
    anchor = entry.pop("anchor")
    return {**entry, "url": f"{content.report_url}#{anchor}" if content.report_url and anchor else None}


def _event_id(content: Summary, recipient: str, attempt: str) -> str:
    finished = content.finished_at.astimezone(UTC).isoformat()
    return f"kmsledger-{digest(content.report, str(content.run_id), finished, recipient, attempt)}"


def _attempt(settings: WebhookSettings, body: bytes, event: str, recipient: str) -> Outcome:
    """Send the request once."""
    now = int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": event,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(settings.secret.get_secret_value(), event, now, body),
    }
    try:
        answer = http_post.post(
            settings.url, body, headers, timeout=settings.timeout, ca_bundle=settings.ca_bundle, setting="its url"
        )
    except http_post.NoAnswerError as error:
        return Outcome(recipient, "failed", f"{server_name(settings)} {error}")
    text = clean(answer.body[:_ANSWER_BYTES].decode("utf-8", "replace"))
    return _outcome(settings, recipient, answer.status, answer.redirect, text)


def connection_error(settings: WebhookSettings) -> str:
    """Connect as for an event, through the same proxy and with TLS, and send no request.

    Returns the cause of a failure and its fix; empty text if the receiver can be reached.
    """
    try:
        http_post.connect(settings.url, timeout=settings.timeout, ca_bundle=settings.ca_bundle, setting="its url")
    except http_post.NoAnswerError as error:
        return f"{server_name(settings)} {error}"
    return ""


def _outcome(settings: WebhookSettings, recipient: str, code: int, target: str | None, answer: str) -> Outcome:
    host = server_name(settings)
    if 200 <= code < 300:
        return Outcome(recipient, "sent", str(code))
    if 300 <= code < 400:
        to = clean(urlsplit(target).hostname or "") if target else "an unknown address"
        return Outcome(
            recipient, "rejected", f"{host} redirects ({code}) to {to}, and redirects are not followed: correct its url"
        )
    if code >= 500 or code in _REPEATED_STATUSES:
        return Outcome(
            recipient, "failed", f"{host} failed {len(RETRY_DELAYS) + 1} times, at last with {code} {answer}".strip()
        )
    fix = "check its secret" if code in {401, 403} else "check its url and whether it accepts this event"
    return Outcome(recipient, "rejected", f"{host} rejects the event ({f'{code} {answer}'.strip()}): {fix}")


def server_name(settings: WebhookSettings) -> str:
    """The receiver, as the subject of a sentence."""
    return f"The webhook {settings.name} at {urlsplit(settings.url).hostname}"
