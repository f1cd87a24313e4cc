"""What needs attention today: one list for the report and for the mail."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.severities import SEVERITIES
from reports.html.filters import counted, date, days
from reports.html.labels import STATES, account, by_service, place, several
from reports.html.query_runner import Row, Source

RESCUE: Final = timedelta(days=7)
"""How long RDS waits for a lost key before the database can only be restored from a backup."""


@dataclass(frozen=True)
class Notice:
    """Something that somebody should look at. `link` is the place in the report that tells more."""

    severity: str
    text: str
    where: str
    link: str


@dataclass(frozen=True)
class Attention:
    """All notices, most severe first, and the keys that they are about (ARNs), in the same order."""

    notices: tuple[Notice, ...]
    keys: tuple[str, ...]


def attention(source: Source, run: Row, limit: int) -> Attention:
    """What the mart's run says somebody should look at; the report's table of keys has `limit` rows."""
    troubled = list(source.rows("keys_at_risk", at=run["started_at"]))
    notices = [_key(row, f"k-{row['anchor']}" if at < limit else "keys") for at, row in enumerate(troubled)]
    notices += map(_locked_out, source.rows("lockouts"))
    notices += map(_rule, source.rows("failing_rules"))
    notices += map(_vendor, source.rows("vendor_notices"))
    notices += map(_change, source.rows("high_severity_changes", run_id=run["run_id"]))
    notices += map(_blind, source.rows("unread_regions"))
    notices += _unused(source.row("unused_pending_deletion") or {"keys": 0})
    ordered = sorted(notices, key=lambda notice: SEVERITIES.index(notice.severity))
    return Attention(tuple(ordered), tuple(row["key_arn"] for row in troubled))


def _key(row: Row, link: str) -> Notice:
    name = row["alias"] or row["key_id"]
    used = by_service(row["services"] or [])
    where = f"{place(row)} · {row['key_arn']}"
    stale = " (last known)" if row["freshness"] == "stale" else ""
    if row["state"] == "PendingDeletion":
        when = "on a date that is not known"
        if row["deletion_date"]:
            when = f"{days(row['days_to_deletion'])}, on {date(row['deletion_date'])}"
        text = f"Key {name} will be deleted {when}{stale}. {counted(row['dependent_resources'], 'resource')} will be lost with it: {used}."
        return Notice("critical", text, where, link)
    if row["state"] == "Enabled":
        text = (
            f"The key material of {name} expires {days(row['days_to_expiry'])}, on {date(row['material_expires_at'])}. "
            f"Import it again, or what it encrypts cannot be read"
        )
        return Notice("high", f"{text}: {used}." if used else f"{text}.", where, link)
    state = STATES.get(row["state"], str(row["state"])).lower()
    text = f"Key {name} is {state}{stale} while {counted(row['dependent_resources'], 'resource')} cannot be read without it: {used}."
    return Notice("critical" if row["state"] == "PendingReplicaDeletion" else "high", text, where, link)


def _locked_out(row: Row) -> Notice:
    key = f" Key: {several(row['keys'])}." if row["keys"] else " Which key it uses is not known."
    if row["status"].endswith("-recoverable"):
        text = (
            f"{row['name']} has lost its key ({row['status']}); first seen so on {date(row['since'])}. "
            f"AWS gives it up seven days after the loss, on {_deadline(row['since'])} at the latest: "
            f"enable the key and start it before then.{key}"
        )
    else:
        text = (
            f"{row['name']} has lost its key for good ({row['status']}); first seen so on {date(row['since'])}. "
            f"Restore it from a backup under another key.{key}"
        )
    return Notice("critical", text, f"{place(row)} · {row['resource_arn']}", "usage")


def _deadline(since: datetime) -> str:
    return date(since + RESCUE)


def _rule(row: Row) -> Notice:
    if row["rule_id"] is None:
        more = row["rules"] - len(row["examples"])
        titles = ", ".join(f"“{title}”" for title in row["examples"])
        text = f"{row['rules']:,} rules of high severity fail, with {counted(row['failed'], 'finding')}: {titles}"
        return Notice(
            row["severity"], f"{text} and {more:,} more." if more else f"{text}.", "All of them, worst first", "rules"
        )
    where = f"Rule {row['rule_id']} · "
    where += (
        account(row["account_id"], row["account_name"]) if row["accounts"] == 1 else f"{row['accounts']:,} accounts"
    )
    failing = counted(row["failed"], "resource fails", "resources fail")
    more = row["failed"] - len(row["examples"])
    examples = f"{', '.join(row['examples'])} and {more:,} more" if more else several(row["examples"])
    return Notice(row["severity"], f"{failing} the rule “{row['title']}”: {examples}.", where, f"rule-{row['rule_id']}")


def _vendor(row: Row) -> Notice:
    link = f"vendor-{row['profile']}"
    where = f"Vendor {row['vendor']} · {row['profile']}"
    if row["result"] == "broken":
        name = row["key_alias"] or str(row["key_arn"]).rpartition("/")[2]
        return Notice(
            row["severity"], f"{row['vendor']} on {name}: {row['reason']}", f"{where} · {row['key_arn']}", link
        )
    what = {
        "blocked_by_policy": ("key is blocked by its policy", "keys are blocked by their policies"),
        "over_shared": ("key is shared more widely than it asks", "keys are shared more widely than it asks"),
    }.get(row["result"], ("thing is not as it asks", "things are not as it asks"))
    names = several(list(dict.fromkeys(name for name in row["names"] if name)))
    text = f"{row['vendor']}: {counted(row['checks'], *what)}"
    return Notice(row["severity"], f"{text}: {names}." if names else f"{text}.", where, link)


def _change(row: Row) -> Notice:
    return Notice(row["severity"], row["message"], place(row), "changes")


def _blind(row: Row) -> Notice:
    places = [place(example) for example in row["examples"]]
    more = row["scopes"] - len(places)
    where = f"{'; '.join(places)} and {more:,} more" if more else several(places)
    what = "Nothing was read" if row["unread"] else f"A whole list is missing ({several(row['actions'])})"
    age = f", for {counted(row['consecutive_runs'], 'night')} now" if row["consecutive_runs"] > 1 else ""
    return Notice("high", f"{what} in {where}{age}: {row['cause']}.", "Nothing there can pass", "coverage")


def _unused(row: Row) -> Iterator[Notice]:
    if row["keys"]:
        when = f"the first goes on {date(row['first_date'])}" if row["first_date"] else "their dates are not known"
        text = f"{counted(row['keys'], 'more key is', 'more keys are')} scheduled for deletion; {when}. Nothing known uses them."
        yield Notice("medium", text, "Sort the keys by state to see them", "keys")
