"""Compresses the messages of change events: written out, a year of them is half of the mart's file.

Instead of the message, the stored table has a template with placeholders for the values of other columns; instead of the key's
ARN, the id of its first version. The view ``internal.change`` over it restores the texts.
"""

from __future__ import annotations

TABLE = "change_event"
_MARK = "chr(2)"
"""Marks a template; no message starts with it, because every message starts with a fixed word."""
_ACCOUNT_REGION = (
    "coalesce(account_name || ' (', '') || account_id || coalesce(', ' || region, '') "
    "|| CASE WHEN account_name IS NULL THEN '' ELSE ')' END"
)
_VALUES = ("subject", _ACCOUNT_REGION, "after", "before", "account_id")
"""The expressions that placeholders stand for, in the order in which they are extracted from a message."""


def _extract(message: str) -> str:
    for number, text in enumerate(_VALUES):
        message = f"replace({message}, coalesce({text}, ''), chr({number + 3}))"
    return message


def _expand(template: str) -> str:
    for number, text in reversed(list(enumerate(_VALUES))):
        template = f"replace({template}, chr({number + 3}), coalesce({text}, ''))"
    return template


def encode(source: str, keys: str) -> str:
    """The SELECT that encodes the changes in table ``source``; ``keys`` has all versions of the keys that they name.

    A template is stored only where expanding it yields exactly the message: names can contain anything. A key that was not yet
    seen in the run of the change keeps its ARN: otherwise an incremental build would differ from a full rebuild.
    """
    return f"""
    SELECT c.run_id, c.occurred_at, c.account_id, c.account_name, c.region, f.number AS key,
      CASE WHEN f.number IS NULL THEN c.key_arn END AS key_arn, c.resource_arn, c.subject, c.event_type, c.severity,
      CASE WHEN {_expand("template")} = message THEN {_MARK} || template ELSE message END AS message, c.before, c.after
    FROM (SELECT *, {_extract("message")} AS template FROM {source}) c
    LEFT JOIN (
      SELECT key_arn, min(version_id) AS number, min(valid_from) AS since FROM {keys}
      WHERE key_arn IN (SELECT key_arn FROM {source})
      GROUP BY key_arn
    ) f ON f.key_arn = c.key_arn AND f.since <= c.run_id
    ORDER BY c.run_id, c.event_type, c.account_id, c.region, f.number
    """


_TEXTS = f"""t.resource_arn, t.subject, t.event_type, t.severity,
  CASE WHEN starts_with(t.message, {_MARK}) THEN {_expand("substr(t.message, 2)")} ELSE t.message END AS message,
  t.before, t.after"""
# Two branches, so that DuckDB finds a key's ARN among the keys first, and then its id among the changes.
DECODE_VIEW = f"""
CREATE OR REPLACE VIEW internal.change AS
SELECT t.run_id, t.occurred_at, t.account_id, t.account_name, t.region, k.key_arn, {_TEXTS}
FROM internal.{TABLE} t
JOIN (SELECT version_id, key_arn FROM internal.key) k ON k.version_id = t.key
UNION ALL
SELECT t.run_id, t.occurred_at, t.account_id, t.account_name, t.region, t.key_arn, {_TEXTS}
FROM internal.{TABLE} t
WHERE t.key IS NULL
"""
"""Creates ``internal.change`` in a catalog whose schema ``internal`` has the table."""
