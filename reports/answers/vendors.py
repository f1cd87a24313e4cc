"""External parties and the keys that they can use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.safe_text import printable
from reports.answers.repository import opened
from reports.answers.text import UNEVALUATED_POLICIES, and_more, describe_key
from reports.mart.as_of import RunRef
from reports.mart.rows import rows

FORMAT = "kmsledger.vendors/1"
_VENDORS = "SELECT * FROM vendors ORDER BY party, account_id, region, key_alias NULLS LAST, key_arn"


@dataclass(slots=True)
class Vendors:
    """The rows of view vendors."""

    run: RunRef
    rows: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: the columns of view vendors."""
        return {"format": FORMAT, "as_of": self.run, "vendors": self.rows, "notes": [UNEVALUATED_POLICIES]}

    def to_text(self) -> str:
        """Text for a terminal: each party, its keys, and for each access path what remains without it."""
        if not self.rows:
            return f"No external party can use a key. As of {self.run}."
        parties = len({row["party"] for row in self.rows})
        keys = len({row["key_arn"] for row in self.rows})
        lines = [f"External parties: {parties}; keys that they can use: {keys}. As of {self.run}."]
        party = None
        for row in self.rows:
            if row["party"] != party:
                party = row["party"]
                unknown = "" if row["access"] == "vendor" else ", not a known external party"
                accounts = ", ".join(row["party_accounts"] or ())
                lines += ["", f"{party}{f' ({accounts})' if accounts and accounts != party else ''}{unknown}"]
            lines += _key_lines(row)
        lines += ["", f"Note: {UNEVALUATED_POLICIES}"]
        return "\n".join(map(printable, lines))


def _key_lines(row: dict[str, Any]) -> list[str]:
    lines = [f"  {describe_key(row)}"]
    lines.append(f"    operations, if its own IAM allows: {', '.join(row['operations'] or ['unknown'])}")
    fallback_paths = row["fallback_paths"] or {}
    for path in row["paths"] or ():
        remaining = fallback_paths.get(path) or ()
        effect = f"access remains through {', '.join(remaining)}" if remaining else "access ends"
        lines.append(f"    through {path}: without it, {effect}")
    lines += [f"    {conditions}" for conditions in row["conditions"] or ()]
    if row["dependent_count"]:
        lines.append(f"    dependents: {and_more(row['dependents'] or [], row['dependent_count'])}")
    last_use = (
        f"last used {row['last_used_at']:%Y-%m-%d}"
        if row["last_used_at"]
        else f"last use: {row['last_use'] or 'unknown'}"
    )
    lines.append(f"    {last_use} (by any principal)")
    return lines


def vendors(path: Path, *, as_of: str | None = None) -> Vendors:
    """The external parties of a mart as of a run or date. Raises MartError or QueryError."""
    with opened(path, as_of) as facts:
        return Vendors(facts.run, rows(facts.duck, _VENDORS))
