"""Words for the situations: what needs attention, one entry per root cause, for the report and the mail."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from reports.html.filters import counted, date, days
from reports.html.labels import account, by_service, enumeration
from reports.html.query_runner import LimitedRows
from reports.mart.rows import Row

FIRST: Final = 10
"""How many situations the mail shows."""
SHOWN: Final = 5
"""How many situations the report shows before its charts; the others are one click away."""
LISTED: Final = 100
"""How many situations the report lists."""
COMMAND: Final = "kmsledger cookbook situations"
"""The command that lists all situations."""

_EXCESS: Final = frozenset({"vendor-over-shared", "key-external-create-grant"})
_UNINTENDED: Final = frozenset({
    "grant-external", "key-external-access", "key-policy-public", "key-public-via-service", "secret-cross-account",
    "secret-public",
})  # fmt: skip
"""Rules that a party violates by having any access."""
_DEVIATIONS: Final = frozenset({"vendor-profile", "vendor-external-id"})
_UNREAD: Final = frozenset({"account-not-crawled", "region-not-read"})
_STATES: Final = {
    "Disabled": "is disabled",
    "PendingImport": "has no key material",
    "Unavailable": "is unavailable, because its custom key store is not connected",
    "PendingReplicaDeletion": "will be deleted after its replicas",
    "deleted": "no longer exists",
}
_PLURAL_STATES: Final = {
    "PendingDeletion": ("will be deleted", "will be deleted"),
    "PendingReplicaDeletion": ("will be deleted after its replicas", "will be deleted after their replicas"),
    "Enabled": ("loses its imported key material", "lose their imported key material"),
    "deleted": ("no longer exists", "no longer exist"),
}
_ACTIONS: Final = {
    "PendingDeletion": "Unless the deletion is intended, cancel it, then enable the key.",
    "PendingReplicaDeletion": "Unless the deletion is intended, cancel it, then enable the key.",
    "Disabled": "Enable the key, or move what depends on it to another key.",
    "PendingImport": "Import the same key material again.",
    "Enabled": "Import the same key material again before that date.",
    "Unavailable": "Reconnect the custom key store.",
    "deleted": "A deleted key cannot be restored: restore the data from copies that another key encrypts.",
}


@dataclass(frozen=True)
class Situation:
    """One entry. `link` is the anchor of its details, `commands` are quoted for a shell."""

    situation_id: str
    severity: str
    title: str
    text: str
    """Who is affected."""
    deadline: datetime | None
    where: str
    action: str
    commands: tuple[str, ...]
    link: str
    evidence: tuple[Row, ...]
    """The rules: rule_id, title, severity, failed, unknown."""
    changes: tuple[str, ...]

    @property
    def evidence_text(self) -> str:
        """The evidence, counted."""
        failed, unknown = (sum(rule[status] for rule in self.evidence) for status in ("failed", "unknown"))
        parts = [f"{counted(failed, 'finding')} failed"] if failed else []
        parts += [f"{counted(unknown, 'finding')} unknown"] if unknown else []
        parts += [f"{counted(len(self.changes), 'change')} in this run"] if self.changes else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Situations:
    """The situations in their order, at most as many as the report lists, and the number of all."""

    items: tuple[Situation, ...]
    total: int
    keys: tuple[str, ...]
    """The ARNs of the keys that situations are about, in the same order."""

    @property
    def deadline(self) -> datetime | None:
        """The nearest deadline."""
        return next((item.deadline for item in self.items if item.deadline), None)

    @property
    def critical(self) -> str:
        """How many are critical, if all of them are known here."""
        count = sum(item.severity == "critical" for item in self.items)
        return f"{count:,}" if self.total <= len(self.items) else f"at least {count:,}"

    @property
    def first(self) -> tuple[Situation, ...]:
        """Those for the mail."""
        return self.items[:FIRST]

    @property
    def shown(self) -> tuple[Situation, ...]:
        """Those that the report shows at once."""
        return self.items[:SHOWN]

    @property
    def others(self) -> tuple[Situation, ...]:
        """Those that the report lists below."""
        return self.items[SHOWN:]


def situations(rows: LimitedRows) -> Situations:
    """The situations of the mart's run from the rows of `situations.sql`."""
    keys = tuple(row["key_arn"] for row in rows.rows if row["key_arn"] and row["key_state"] != "deleted")
    return Situations(tuple(map(_situation, rows.rows)), rows.total, keys)


def _situation(row: Row) -> Situation:
    title, text, action, commands, link = _WORDS[row["kind"]](row)
    return Situation(
        row["situation_id"], row["severity"], title, text, row["deadline"], _where(row), action, tuple(commands), link,
        tuple(row["evidence"]), tuple(row["changes"]),
    )  # fmt: skip


def _where(row: Row) -> str:
    """The account and region, the owners, and the ARN of the key."""
    accounts = row["account_ids"]
    where = [counted(len(accounts), "account")] if len(accounts) > 1 else []
    if len(accounts) == 1:
        regional = row["region"] not in {None, "global", "*"}
        where = [account(accounts[0], row["account_name"]) + (f", {row['region']}" if regional else "")]
    if row["owners"]:
        where.append(f"owner {enumeration(row['owners'])}")
    if row["key_arn"]:
        where.append(row["key_arn"])
    return " · ".join(where)


Words = tuple[str, str, str, list[str], str]
"""Title, who is affected, what to do, commands and link."""


def _key(row: Row) -> Words:
    state = row["key_state"]
    if row["key_arn"] is None:
        return _unused_keys(row, state)
    name = row["key_alias"] or row["key_arn"].rpartition(":")[2].removeprefix("key/")
    stale = " (last known state)" if row["freshness"] == "stale" else ""
    if state == "Enabled":
        title = f"The key material of {name} expires {_when(row['days_left'], row['deadline'])}{stale}."
    elif state == "PendingDeletion":
        verb = "was due to" if (row["days_to_deletion"] or 0) < 0 else "will"
        title = f"Key {name} {verb} be deleted {_when(row['days_to_deletion'], row['deletion_date'])}{stale}."
    else:
        title = f"Key {name} {_STATES.get(state, f'cannot be used: its state is {state}')}{stale}."
    link, commands = f"k-{row['anchor']}", _key_commands(row, state)
    action = _ACTIONS.get(state, "Make the key usable again.")
    if ":alias/" in row["key_arn"]:
        action = "Create the alias again for the key that encrypted the data."
    if row["anchor"] is None:  # the report has no row of the key, because it does not exist or belongs to others
        link = "keys" if state == "deleted" else "protects"
        if state != "deleted":
            owner = row["key_arn"].split(":")[4]
            action = f"The key belongs to account {owner}: ask its owner to keep it, or move what depends on it to another key."
            commands = []
    if row["databases"]:
        action += " Then start the databases that lost access to it."
    return title, _dependents(row), action, [*commands, *map(_start, row["databases"])], link


def _dependents(row: Row) -> str:
    vendors, grants = row["parties"], row["grants"] or 0
    resources = row["affected"] - len(vendors) - grants
    parts = []
    if resources:
        services = by_service(row["services"])
        parts.append(counted(resources, "resource") + (f" ({services})" if services else ""))
    if grants:
        parts.append(counted(grants, "grant"))
    parts += vendors
    if not parts:
        text = "Nothing is known to depend on it" + (", but its grants are unknown." if row["grants"] is None else ".")
        return text + (f" It was last used on {date(row['last_used_at'])}." if row["last_used_at"] else "")
    names = f": {_examples(row['names'], resources)}" if resources and row["names"] else ""
    verb = "depends" if row["affected"] == 1 else "depend"
    expiry = row["key_state"] == "Enabled" or row["deadline"] == row["deletion_date"]
    return f"{enumeration(parts, len(parts))} {verb} on it{names}.{'' if expiry else _loss(row)}"


def _unused_keys(row: Row, state: str) -> Words:
    singular, plural = _PLURAL_STATES.get(state, ("cannot be used", "cannot be used"))
    one = row["affected"] == 1
    when = ""
    if row["deadline"]:
        when = f"{' ' if one else ', the first '}{_when(row['days_left'], row['deadline'])}"
    keys, verb = counted(row["affected"], "key"), singular if one else plural
    title = f"{keys} that nothing is known to use {verb}{when}."
    if not row["failed"]:
        title = f"{keys} {verb}{when}; whether something uses {'it' if one else 'them'} is unknown."
    action = "Cancel the deletions that are not intended; waive the findings of the others."
    if state not in {"PendingDeletion", "PendingReplicaDeletion"}:
        action = "Check whether the data that these keys encrypted is still needed."
    return title, _affected(row), action, [], "keys"


def _key_commands(row: Row, state: str) -> list[str]:
    arn = row["key_arn"]
    region = shlex.quote(arn.split(":")[3])
    enable = f"aws kms enable-key --region {region} --key-id {shlex.quote(arn)}"
    if state in {"PendingDeletion", "PendingReplicaDeletion"}:
        return [enable.replace("enable-key", "cancel-key-deletion", 1), enable]
    if state == "Disabled":
        return [enable]
    if state == "Unavailable" and row["custom_key_store_id"]:
        store = shlex.quote(row["custom_key_store_id"])
        return [f"aws kms connect-custom-key-store --region {region} --custom-key-store-id {store}"]
    return []


def _start(database: dict[str, Any]) -> str:
    kind = "cluster" if database["type"].endswith("Cluster") else "instance"
    region, name = shlex.quote(database["region"]), shlex.quote(database["name"])
    return f"aws rds start-db-{kind} --region {region} --db-{kind}-identifier {name}"


def _access(row: Row) -> Words:
    rules = {entry["rule_id"] for entry in row["evidence"] if entry["failed"]}
    party = _capital(enumeration(row["parties"]))
    has = "has" if len(row["parties"]) == 1 else "have"
    it_needs = "it needs" if len(row["parties"]) == 1 else "they need"
    count = counted(row["affected"], row["noun"])
    if rules & _UNINTENDED:
        title = f"{party} {has} access to {count}."
    elif rules & _EXCESS:
        title = f"{party} {has} more access than {it_needs} to {count}."
    else:
        title = f"{party} gained access to {count}."
    if "vendor-over-shared" in rules:
        action = "Replace the statements of the vendor with those that the check prints."
        return title, _affected(row), action, [_check(row)], "vendors"
    operation = "decrypt" if row["noun"] == "secret" else "use"
    target = shlex.quote(row["main"]["arn"].partition("#")[0])
    action = "Check that the access is intended; otherwise remove it from the policy, or revoke the grant."
    return title, _affected(row), action, [f"kmsledger who-can {operation} {target}"], "parties"


def _vendor(row: Row) -> Words:
    party = enumeration(row["parties"])
    blocked = sum(entry["failed"] for entry in row["evidence"] if entry["rule_id"] == "vendor-key-usable")
    found = sum(entry["failed"] for entry in row["evidence"] if entry["rule_id"] in _DEVIATIONS)
    deviations = counted(found, "deviation from vendor requirements", "deviations from vendor requirements")
    if not blocked:
        title = f"{party}: {deviations}."
    else:
        title = f"{party} cannot use {counted(blocked, 'key')} that it needs{f'; its setup has {deviations}' if found else ''}."
    return title, _affected(row), "Apply the fixes that the check prints.", [_check(row)], "vendors"


def _check(row: Row) -> str:
    profile = f" {shlex.quote(row['profiles'][0])}" if len(row["profiles"]) == 1 else ""
    return f"kmsledger vendors check{profile}"


def _rule(row: Row) -> Words:
    rule = next(entry["title"] for entry in row["evidence"] if entry["rule_id"] == row["rule_id"])
    count = counted(row["affected"], f"{row['noun']} fails", f"{row['noun']}s fail")
    title, text = f"{count} the rule “{rule}”.", _affected(row)
    if row["affected"] == 1:
        title, text = f"{row['main']['name']} fails the rule “{rule}”.", row["main"]["reason"] + _loss(row)
    return title, text, row["fix"] or "", [*map(_start, row["databases"])], f"rule-{row['rule_id']}"


def _coverage(row: Row) -> Words:
    rules = {entry["rule_id"] for entry in row["evidence"] if entry["failed"]}
    what = f"Inconclusive results about {counted(row['affected'], row['noun'])}"
    if rules:
        what = "Incomplete coverage" if rules & _UNREAD else "Incomplete coverage, because requests are denied"
    action = "Let the crawler read the missing data; until then, nothing there can pass."
    unknown = counted(
        row["unknown"], "result of high or critical severity is", "results of high or critical severity are"
    )
    text = _affected(row) + (f" {unknown} unknown." if row["unknown"] else "")
    titles = {
        f"rule {entry['rule_id']}": f"the rule “{entry['title']}” could not be decided" for entry in row["evidence"]
    }
    return (
        f"{what}: {titles.get(row['cause'], row['cause'])}.",
        text,
        row["fix"] if rules and row["fix"] else action,
        [],
        "coverage",
    )


_WORDS: Final = {"key": _key, "access": _access, "vendor": _vendor, "rule": _rule, "coverage": _coverage}


def _when(left: int | None, moment: Any) -> str:
    return f"{days(left)}, on {date(moment)}" if left is not None and moment else "on an unknown date"


def _loss(row: Row) -> str:
    return f" Data is lost {_when(row['days_left'], row['deadline'])}, at the latest." if row["deadline"] else ""


def _affected(row: Row) -> str:
    return f"Affected: {_examples(row['names'], row['affected'])}.{'' if row['kind'] == 'key' else _loss(row)}"


def _examples(names: list[str], total: int) -> str:
    """The first three names, and how many more there are."""
    left = total - min(len(names), 3)
    return f"{', '.join(names[:3])} and {left:,} more" if left > 0 else enumeration(names)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
