"""Which party outside the organization can do what with which key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.answers.repository import opened
from reports.answers.version_diff import rows
from reports.mart.as_of import Moment
from reports.mart.change_event import moment, place, value
from reports.mart.result_writers import printable

FORMAT = "kmsledger.vendors/1"
_VENDORS = "SELECT * FROM vendors ORDER BY party, account_id, region, key_alias NULLS LAST, key_arn"


@dataclass(slots=True)
class Vendors:
    """The rows of view vendors."""

    end: Moment
    rows: list[dict[str, Any]]

    def plain(self) -> dict[str, Any]:
        """For JSON; the columns of view vendors."""
        listed = [{name: value(one) for name, one in row.items()} for row in self.rows]
        return {"format": FORMAT, "as_of": moment(self.end), "vendors": listed}

    def lines(self) -> list[str]:
        """For people: a party, its keys, and for each way what remains without it."""
        if not self.rows:
            return [f"No party outside the organization can use a key. As of {self.end}."]
        parties = len({row["party"] for row in self.rows})
        found = [f"{parties} parties outside the organization can use {len(self.rows)} keys. As of {self.end}."]
        party = None
        for row in self.rows:
            if row["party"] != party:
                party = row["party"]
                known = "" if row["access"] == "vendor" else ", whom nobody here knows"
                accounts = ", ".join(row["party_accounts"] or ())
                found += ["", f"{party}{f' ({accounts})' if accounts and accounts != party else ''}{known}"]
            found += _key(row)
        return [printable(line) for line in found]


def _key(row: dict[str, Any]) -> list[str]:
    alias = f" ({row['key_alias']})" if row["key_alias"] else ""
    state = f", state {row['key_state']}" if row["key_state"] not in {None, "Enabled"} else ""
    found = [f"  {row['key_arn']}{alias} in {place(row['account_id'], row['account_name'], row['region'])}{state}"]
    found.append(f"    can {', '.join(row['operations'] or ['nothing that is known'])}, if its own IAM allows")
    remains = row["fallback_paths"] or {}
    for way in row["paths"] or ():
        others = remains.get(way) or ()
        left = f"without it, access remains through {', '.join(others)}" if others else "without it, the access ends"
        found.append(f"    through {way}: {left}")
    found += [f"    {scope}" for scope in row["scopes"] or ()]
    if row["protects"]:
        names = row["protected"] or []
        more = f" and {row['protects'] - len(names)} more" if row["protects"] > len(names) else ""
        found.append(f"    protects {', '.join(names)}{more}")
    used = (
        f"last used {row['last_used_at']:%Y-%m-%d}"
        if row["last_used_at"]
        else f"last use: {row['last_use'] or 'unknown'}"
    )
    found.append(f"    {used} (by anyone)")
    return found


def vendors(path: Path, *, as_of: str | None = None) -> Vendors:
    """Answer from a mart. Raises MartError or QueryError."""
    with opened(path, as_of) as facts:
        return Vendors(facts.moment, rows(facts.duck, _VENDORS))
