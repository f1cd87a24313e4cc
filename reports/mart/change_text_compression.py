"""How the mart stores what changed in all nights: a year of it is half of the file if every sentence is written out.

Table ``internal.change_event`` has, in place of the sentence, a template in which marks stand for what other columns hold, and, in
place of the key's ARN, the number of its first version. View ``internal.change`` over it has the texts again.
"""

from __future__ import annotations

TABLE = "change_event"
_MARK = "chr(2)"
"""Begins a template; no sentence begins with it, for the first word is ours."""
_PLACE = (
    "coalesce(account_name || ' (', '') || account_id || coalesce(', ' || region, '') "
    "|| CASE WHEN account_name IS NULL THEN '' ELSE ')' END"
)
_FILLED = ("subject", _PLACE, "after", "before", "account_id")
"""What marks stand for, in the order in which it is taken out of a sentence."""


def _taken_out(sentence: str) -> str:
    for number, text in enumerate(_FILLED):
        sentence = f"replace({sentence}, coalesce({text}, ''), chr({number + 3}))"
    return sentence


def _filled_in(template: str) -> str:
    for number, text in reversed(list(enumerate(_FILLED))):
        template = f"replace({template}, chr({number + 3}), coalesce({text}, ''))"
    return template


def packed(source: str, keys: str) -> str:
    """The SELECT that stores changes, complete ones in table ``source``; ``keys`` has all versions of the keys they name.

    A template is kept only where the sentence comes out of it again to the letter: names can hold anything. A key that was
    not known yet when something told of it has no number: another night's mart would know it, and must not differ.
    """
    return f"""
    SELECT c.run_id, c.occurred_at, c.account_id, c.account_name, c.region, f.number AS key,
      CASE WHEN f.number IS NULL THEN c.key_arn END AS key_arn, c.resource_arn, c.subject, c.event_type, c.severity,
      CASE WHEN {_filled_in("template")} = message THEN {_MARK} || template ELSE message END AS message, c.before, c.after
    FROM (SELECT *, {_taken_out("message")} AS template FROM {source}) c
    LEFT JOIN (
      SELECT key_arn, min(version_id) AS number, min(valid_from) AS since FROM {keys}
      WHERE key_arn IN (SELECT key_arn FROM {source})
      GROUP BY key_arn
    ) f ON f.key_arn = c.key_arn AND f.since <= c.run_id
    ORDER BY c.run_id, c.event_type, c.account_id, c.region, f.number
    """


_TEXTS = f"""t.resource_arn, t.subject, t.event_type, t.severity,
  CASE WHEN starts_with(t.message, {_MARK}) THEN {_filled_in("substr(t.message, 2)")} ELSE t.message END AS message,
  t.before, t.after"""
# Apart, so that a key's ARN is looked up among the keys first, and then its number among the changes.
VIEW = f"""
CREATE OR REPLACE VIEW internal.change AS
SELECT t.run_id, t.occurred_at, t.account_id, t.account_name, t.region, k.key_arn, {_TEXTS}
FROM internal.{TABLE} t
JOIN (SELECT version_id, key_arn FROM internal.key) k ON k.version_id = t.key
UNION ALL
SELECT t.run_id, t.occurred_at, t.account_id, t.account_name, t.region, t.key_arn, {_TEXTS}
FROM internal.{TABLE} t
WHERE t.key IS NULL
"""
"""For every catalog whose schema ``ledger`` has the table."""
