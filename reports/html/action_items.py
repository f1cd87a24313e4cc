"""Action items: what needs attention today, as one list for the report and the mail."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from models.severities import SEVERITIES
from reports.html.filters import counted, date, days
from reports.html.labels import STATES, account, account_region, by_service, enumeration
from reports.html.query_runner import Source
from reports.mart.rows import Row

RDS_KEY_GRACE_PERIOD: Final = timedelta(days=7)
"""How long RDS waits for a lost key; after that, the database can only be restored from a backup."""


@dataclass(frozen=True)
class ActionItem:
    """One entry of the list. `link` is the anchor of the details in the report."""

    severity: str
    text: str
    where: str
    link: str


@dataclass(frozen=True)
class ActionList:
    """All action items, most severe first, and the ARNs of the keys at risk, in the order of their items."""

    items: tuple[ActionItem, ...]
    keys: tuple[str, ...]


def action_list(source: Source, run: Row, limit: int) -> ActionList:
    """The action items of the mart's run; `limit` is the number of rows in the report's table of keys."""
    at_risk = list(source.rows("keys_at_risk", at=run["started_at"]))
    items = [_key(row, f"k-{row['anchor']}" if index < limit else "keys") for index, row in enumerate(at_risk)]
    items += map(_lockout, source.rows("lockouts"))
    items += map(_rule, source.rows("failing_rules"))
    items += map(_vendor, source.rows("vendor_notices"))
    items += map(_change, source.rows("high_severity_changes", run_id=run["run_id"]))
    items += map(_unread_scopes, source.rows("unread_regions"))
    items += map(_unused, source.rows("unused_pending_deletion", run_id=run["run_id"]))
    ordered = sorted(items, key=lambda item: SEVERITIES.index(item.severity))
    return ActionList(tuple(ordered), tuple(row["key_arn"] for row in at_risk))


def _key(row: Row, link: str) -> ActionItem:
    name = row["alias"] or row["key_id"]
    dependents = by_service(row["services"] or [])
    where = f"{account_region(row)} · {row['key_arn']}"
    stale = " (last known)" if row["freshness"] == "stale" else ""
    if row["state"] == "PendingDeletion":
        when = "on an unknown date"
        if row["deletion_date"]:
            when = f"{days(row['days_to_deletion'])}, on {date(row['deletion_date'])}"
        lost = counted(row["dependent_resources"], "resource")
        text = f"Key {name} will be deleted {when}{stale}. {lost} will become unreadable: {dependents}."
        return ActionItem("critical", text, where, link)
    if row["state"] == "Enabled":
        text = (
            f"The key material of {name} expires {days(row['days_to_expiry'])}, on {date(row['material_expires_at'])}. "
            f"Import it again; otherwise the encrypted data becomes unreadable"
        )
        return ActionItem("high", f"{text}: {dependents}." if dependents else f"{text}.", where, link)
    state = STATES.get(row["state"], str(row["state"])).lower()
    count = counted(row["dependent_resources"], "resource depends", "resources depend")
    text = f"Key {name} is {state}{stale}, but {count} on it: {dependents}."
    severity = "critical" if row["state"] == "PendingReplicaDeletion" else "high"
    return ActionItem(severity, text, where, link)


def _lockout(row: Row) -> ActionItem:
    key = f" Key: {enumeration(row['keys'])}." if row["keys"] else " Its key is unknown."
    if row["status"].endswith("-recoverable"):
        text = (
            f"{row['name']} has lost access to its key ({row['status']}), first seen on {date(row['since'])}. "
            f"RDS gives up seven days after the loss, on {date(row['since'] + RDS_KEY_GRACE_PERIOD)} at the latest: "
            f"enable the key and start the database before then.{key}"
        )
    else:
        text = (
            f"{row['name']} has permanently lost access to its key ({row['status']}), first seen on {date(row['since'])}. "
            f"Restore it from a backup with another key.{key}"
        )
    return ActionItem("critical", text, f"{account_region(row)} · {row['resource_arn']}", "usage")


def _rule(row: Row) -> ActionItem:
    if row["rule_id"] is None:
        more = row["rules"] - len(row["examples"])
        titles = ", ".join(f"“{title}”" for title in row["examples"])
        text = f"{row['rules']:,} rules of high severity fail, with {counted(row['failed'], 'finding')}: {titles}"
        text = f"{text} and {more:,} more." if more else f"{text}."
        return ActionItem(row["severity"], text, "All of them, most severe first", "rules")
    single = row["accounts"] == 1
    accounts = account(row["account_id"], row["account_name"]) if single else f"{row['accounts']:,} accounts"
    where = f"Rule {row['rule_id']} · {accounts}"
    failing = counted(row["failed"], "resource fails", "resources fail")
    more = row["failed"] - len(row["examples"])
    examples = f"{', '.join(row['examples'])} and {more:,} more" if more else enumeration(row["examples"])
    text = f"{failing} the rule “{row['title']}”: {examples}."
    return ActionItem(row["severity"], text, where, f"rule-{row['rule_id']}")


def _vendor(row: Row) -> ActionItem:
    link = f"vendor-{row['profile']}"
    where = f"Vendor {row['vendor']} · {row['profile']}"
    if row["result"] == "broken":
        name = row["key_alias"] or str(row["key_arn"]).rpartition("/")[2]
        text = f"{row['vendor']} on {name}: {row['reason']}"
        return ActionItem(row["severity"], text, f"{where} · {row['key_arn']}", link)
    nouns = {
        "blocked_by_policy": ("key is blocked by its policy", "keys are blocked by their policies"),
        "over_shared": ("key allows more than the profile requires", "keys allow more than the profile requires"),
    }.get(row["result"], ("deviation from the profile", "deviations from the profile"))
    names = enumeration(list(dict.fromkeys(name for name in row["names"] if name)))
    text = f"{row['vendor']}: {counted(row['checks'], *nouns)}"
    return ActionItem(row["severity"], f"{text}: {names}." if names else f"{text}.", where, link)


def _change(row: Row) -> ActionItem:
    return ActionItem(row["severity"], row["message"], account_region(row), "changes")


def _unread_scopes(row: Row) -> ActionItem:
    scopes = [account_region(example) for example in row["examples"]]
    more = row["scopes"] - len(scopes)
    where = f"{'; '.join(scopes)} and {more:,} more" if more else enumeration(scopes)
    missing = "Nothing was read" if row["unread"] else f"A whole listing is missing ({enumeration(row['actions'])})"
    age = f", for {counted(row['consecutive_runs'], 'run')} now" if row["consecutive_runs"] > 1 else ""
    return ActionItem("high", f"{missing} in {where}{age}: {row['cause']}.", "Nothing there can pass", "coverage")


def _unused(row: Row) -> ActionItem:
    when = f"the first on {date(row['first_date'])}" if row["first_date"] else "on unknown dates"
    count = counted(row["keys"], "more key is", "more keys are")
    new = f", {row['new_keys']:,} of them since the previous run" if row["unused"] and row["new_keys"] else ""
    use = (
        "No resource and no grant is known to use them."
        if row["unused"]
        else "No resource is known to use them, but they have grants, or their grants are unknown."
    )
    text = f"{count} scheduled for deletion, {when}{new}. {use}"
    return ActionItem("low" if row["unused"] else "medium", text, "Sort the keys by state to see them", "keys")
