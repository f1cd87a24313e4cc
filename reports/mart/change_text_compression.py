"""How the mart stores what changed in all nights: a year of it is half of the file if every sentence is written out.

Table ``ledger.told`` has, in place of the sentence, a template in which marks stand for what other columns hold, and, in
place of the key's ARN, the number of its first version. View ``ledger.change`` over it has the texts again.
"""

from __future__ import annotations

TABLE = "told"
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
    SELECT c.run_id, c."at", c.account_id, c.account_name, c.region, f.number AS key,
      CASE WHEN f.number IS NULL THEN c.key_arn END AS key_arn, c.resource_arn, c.subject, c.kind, c.severity,
      CASE WHEN {_filled_in("template")} = sentence THEN {_MARK} || template ELSE sentence END AS sentence, c.before, c.after
    FROM (SELECT *, {_taken_out("sentence")} AS template FROM {source}) c
    LEFT JOIN (
      SELECT key_arn, min(version_id) AS number, min(valid_from) AS since FROM {keys}
      WHERE key_arn IN (SELECT key_arn FROM {source})
      GROUP BY key_arn
    ) f ON f.key_arn = c.key_arn AND f.since <= c.run_id
    ORDER BY c.run_id, c.kind, c.account_id, c.region, f.number
    """


_TEXTS = f"""t.resource_arn, t.subject, t.kind, t.severity,
  CASE WHEN starts_with(t.sentence, {_MARK}) THEN {_filled_in("substr(t.sentence, 2)")} ELSE t.sentence END AS sentence,
  t.before, t.after"""
# Apart, so that a key's ARN is looked up among the keys first, and then its number among the changes.
VIEW = f"""
CREATE OR REPLACE VIEW ledger.change AS
SELECT t.run_id, t."at", t.account_id, t.account_name, t.region, k.key_arn, {_TEXTS}
FROM ledger.{TABLE} t
JOIN (SELECT version_id, key_arn FROM ledger.key) k ON k.version_id = t.key
UNION ALL
SELECT t.run_id, t."at", t.account_id, t.account_name, t.region, t.key_arn, {_TEXTS}
FROM ledger.{TABLE} t
WHERE t.key IS NULL
"""
"""For every catalog whose schema ``ledger`` has the table."""
