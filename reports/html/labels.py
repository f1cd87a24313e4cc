"""The words for what the views say in codes: kinds of key, outcomes, parties."""

from collections.abc import Mapping
from typing import Any, Final

from models.aws_types import service_label
from models.severities import SEVERITIES
from reports.html.filters import counted, region

CLASSES: Final[dict[str, str]] = {
    "customer": "Customer managed",
    "aws_managed": "AWS managed",
    "aws_owned": "AWS owned",
    "none": "Not encrypted with a key",
    "not_crawled": "Key not crawled",
    "dangling": "Key does not exist",
    "unknown": "Unknown",
}
CLASS_NOTES: Final[dict[str, str]] = {
    "customer": "a key of the organization that it controls itself",
    "aws_managed": "the account's default key of the service (alias/aws/...); its policy cannot be changed",
    "aws_owned": "a key that AWS owns; it is in no account and cannot be audited",
    "none": "the service says that no KMS key is used",
    "not_crawled": "a key of an account or region that is not in this ledger",
    "dangling": "the complete list of its account and region does not show the key",
    "unknown": "the answer is missing; the reason is stated in the row",
}
ALWAYS_LISTED: Final = ("secretsmanager", "rds", "elasticache", "s3")
"""Services that reports list even if nothing in them uses a key."""
OUTCOMES: Final[dict[str, str]] = {
    "complete": "read completely",
    "partial": "read, with gaps",
    "failed": "not read",
    "excluded": "left out by configuration",
    "suspended": "account suspended or closed",
    "left": "account left the organization",
    "disabled": "region not enabled",
}
PARTIES: Final[dict[str, str]] = {
    "known_party": "Known outside party",
    "external_account": "Outside account, not known",
    "public": "Everyone",
    "deleted_principal": "Deleted principal",
    "unknown": "Unknown",
    "own_organization": "Another account of the organization",
    "own_account": "The key's own account",
    "aws_service": "AWS service",
}
STATES: Final[dict[str, str]] = {
    "PendingDeletion": "Pending deletion",
    "PendingReplicaDeletion": "Pending replica deletion",
    "PendingImport": "Pending import",
}

FINDINGS: Final[dict[str, str]] = {
    "fail": "Fail",
    "unknown": "Unknown",
    "waived": "Waived",
    "pass": "Pass",
    "not_applicable": "Not applicable",
}
ARE: Final[dict[str, str]] = {"fail": "fail", "unknown": "are unknown", "waived": "are waived"}
MOVES: Final[dict[str, str]] = {
    "new": "New",
    "reopened": "Reopened",
    "returned": "Fails again",
    "unknown": "Unknown now",
    "resolved": "Resolved",
}
"""How a finding turned in a run, as a label."""
MOVED: Final[dict[str, str]] = {
    "new": "new",
    "reopened": "reopened",
    "returned": "waived or unknown before",
    "unknown": "newly unknown",
    "resolved": "resolved",
}
"""The same after a number."""
MOVE_MARKS: Final[dict[str, str]] = {
    "new": "bad",
    "reopened": "bad",
    "returned": "bad",
    "unknown": "unknown",
    "resolved": "good",
}

STATE_MARKS: Final[dict[str, str]] = {"fail": "bad", "unknown": "unknown", "pass": "good", "not_applicable": "info"}
"""The marks of a control's state."""

VENDOR_VERDICTS: Final[dict[str, str]] = {
    "broken": "Broken",
    "blocked_by_policy": "Blocked by policy",
    "over_shared": "Over-shared",
    "unknown": "Unknown",
    "accessible": "Accessible",
    "not_selected": "Not selected",
    "denied_by_tag": "Denied by tag",
}
VENDOR_MARKS: Final[dict[str, str]] = {
    "broken": "critical",
    "blocked_by_policy": "bad",
    "over_shared": "bad",
    "wrong": "bad",
    "unknown": "unknown",
    "advice": "info",
    "accessible": "good",
    "not_selected": "info",
    "denied_by_tag": "info",
}
_ABOUT: Final[dict[str, str]] = {
    "key_spec": "Key spec",
    "key_usage": "Usage",
    "role_missing": "No role",
    "trust_too_wide": "Trust too wide",
    "external_id_missing": "No external id",
    "role_actions_missing": "Actions missing",
    "role_actions_beyond": "Too many actions",
    "role_resources_beyond": "Too many keys",
    "replica_missing": "No replica",
    "alias_moved": "Alias moved",
    "protected_key_edited": "Protected key edited",
    "multi_region": "Regionality",
}


def verdict(row: dict[str, Any]) -> str:
    """What a vendor check says, in two or three words."""
    if row["subject_type"] == "key":
        return VENDOR_VERDICTS.get(row["result"], str(row["result"]))
    return _ABOUT.get(row["about"], str(row["about"]).replace("_", " ").capitalize())


def verdict_counts(row: dict[str, Any]) -> list[tuple[str, int]]:
    """Keys by verdict, in the order in which verdicts are always shown."""
    return [(name, row[name]) for name in VENDOR_VERDICTS]


def vendor_subject(row: dict[str, Any]) -> str:
    """What a vendor check is about: a key by its alias, a role by its name, or the profile."""
    if row["key_arn"]:
        return str(row["key_alias"] or row["key_arn"])
    subject = str(row["subject"] or "")
    return subject.partition(":role/")[2] or subject or f"profile {row['profile']}"


def status_counts(row: dict[str, Any]) -> list[tuple[str, int]]:
    """Findings by status, in the order in which statuses are always shown."""
    return [(name, row[name]) for name in FINDINGS]


def severity_order(name: str) -> int:
    """The place of a severity, the gravest first."""
    return SEVERITIES.index(name)


def turned(counts: Mapping[str, int]) -> str:
    """`3 new, 1 reopened, 2 resolved`: only what there is."""
    return ", ".join(f"{counts[name]:,} {word}" for name, word in MOVED.items() if counts.get(name))


def rules_by_state(rules: list[dict[str, Any]]) -> str:
    """How many rules fail, cannot tell, pass and have nothing to judge."""
    failing = sum(bool(rule["fail"]) for rule in rules)
    undecided = sum(bool(rule["unknown"]) and not rule["fail"] for rule in rules)
    met = sum(bool(rule["pass"] or rule["waived"]) and not rule["fail"] and not rule["unknown"] for rule in rules)
    idle = len(rules) - failing - undecided - met
    parts = (
        (failing, "fails somewhere", "fail somewhere"),
        (undecided, "cannot tell everywhere", "cannot tell everywhere"),
        (met, "passes", "pass"),
        (idle, "has nothing to judge", "have nothing to judge"),
    )
    return ", ".join(f"{count:,} {one if count == 1 else many}" for count, one, many in parts if count)


def controls_by_state(framework: Mapping[str, int]) -> str:
    """How many controls failed, are not fully known, are met, and have nothing to judge."""
    parts = (
        ("fail", "failed"),
        ("unknown", "not fully known"),
        ("pass", "met"),
        ("not_applicable", "with nothing to judge"),
    )
    return ", ".join(f"{framework[name]:,} {word}" for name, word in parts if framework[name])


def rule_link(rule: dict[str, Any]) -> str:
    """Where the estate report tells more of a rule."""
    return f"rule-{rule['rule_id']}" if rule["fail"] or rule["unknown"] or rule["waived"] else "quiet"


def class_counts(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Counts by kind of key, in the order in which the kinds are always shown."""
    return [(name, counts.get(name, 0)) for name in CLASSES]


def account(account_id: str, name: str | None) -> str:
    """An account by name and id."""
    return f"{name} ({account_id})" if name else account_id


def place(row: dict[str, Any]) -> str:
    """Account and region of a row."""
    where = account(row["account_id"], row["account_name"]) if row["account_id"] else "no account"
    return f"{where}, {region(row['region'])}" if row["region"] else where


def several(items: list[str], limit: int = 3) -> str:
    """A list in a sentence, cut after `limit` items."""
    left = len(items) - limit
    if left > 0:
        return f"{', '.join(items[:limit])} and {left:,} more"
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def by_service(services: list[dict[str, Any]]) -> str:
    """What depends on a key, as `2 RDS, 1 S3`."""
    return ", ".join(f"{entry['resources']:,} {service_label(entry['service'])}" for entry in services)


def missing(row: dict[str, Any]) -> str:
    """One line of what is missing, from a row of `missing.sql`."""
    regions = several([region(name) for name in row["regions"]])
    if row["actions"] is None:
        return (
            f"{account(row['account_id'], row['account_name'])}, {regions}: nothing was read, because {row['cause']}."
        )
    if row["accounts"] > 1:
        where = counted(row["accounts"], "account")
    else:
        where = f"{account(row['account_id'], row['account_name'])}, {regions}"
    return f"{several(row['actions'])} in {where}: {counted(row['answers'], 'answer')} missing, because {row['cause']}."


def by_region(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The cells of one account in the coverage matrix, by region."""
    return {cell["region"]: cell for cell in cells}
