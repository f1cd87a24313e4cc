"""Labels for the codes in the views: key classes, outcomes, parties, statuses."""

from collections import Counter
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
    "customer": "a key that the organization controls",
    "aws_managed": "the account's default key for the service (alias/aws/...); its policy cannot be changed",
    "aws_owned": "a key owned by AWS; it is in no account and cannot be audited",
    "none": "the service reports that no KMS key is used",
    "not_crawled": "a key in an account or region that was not crawled",
    "dangling": "the key is not in the complete listing of its account and region",
    "unknown": "the data is missing; the row states the reason",
}
ALWAYS_LISTED: Final = ("secretsmanager", "rds", "elasticache", "s3")
"""Services that reports list even if no resource in them uses a key."""
OUTCOMES: Final[dict[str, str]] = {
    "complete": "read completely",
    "partial": "read, with gaps",
    "failed": "not read",
    "excluded": "excluded by configuration",
    "suspended": "account suspended or closed",
    "left": "account left the organization",
    "disabled": "region not enabled",
    "not_in_run": "never read, because the run was limited to others",
}
_PARTIES: Final[dict[str, tuple[str, str]]] = {
    "known_party": ("Known external party", "warn"),
    "external_account": ("Unknown external account", "bad"),
    "public": ("Everyone", "bad"),
    "deleted_principal": ("Deleted principal", "warn"),
    "unknown": ("Unknown", "unknown"),
    "own_organization": ("Another account of the organization", "ok"),
    "own_account": ("The key's own account", "ok"),
    "aws_service": ("AWS service", "ok"),
}

FINDINGS: Final[dict[str, str]] = {
    "fail": "Fail",
    "unknown": "Unknown",
    "waived": "Waived",
    "pass": "Pass",
    "not_applicable": "Not applicable",
}
STATUS_CHANGE_PHRASES: Final[dict[str, str]] = {
    "new": "new",
    "reopened": "reopened",
    "returned": "waived or unknown before",
    "unknown": "newly unknown",
    "resolved": "resolved",
}
"""The status changes of findings, to be used after a number."""

STATE_MARKS: Final[dict[str, str]] = {"fail": "bad", "unknown": "unknown", "pass": "good", "not_applicable": "info"}
"""The CSS classes of a control's state."""

VENDOR_RESULTS: Final[dict[str, str]] = {
    "broken": "Broken",
    "blocked_by_policy": "Blocked by policy",
    "over_shared": "Over-shared",
    "unknown": "Unknown",
    "accessible": "Accessible",
    "not_selected": "Not selected",
    "denied_by_tag": "Denied by tag",
}
CHECK_LABELS: Final[dict[str, str]] = {
    "key_spec": "Key spec",
    "key_usage": "Usage",
    "role_missing": "No role",
    "trust_too_wide": "Trust too wide",
    "external_id_missing": "No external ID",
    "role_actions_missing": "Actions missing",
    "role_actions_beyond": "Too many actions",
    "role_resources_beyond": "Too many keys",
    "replica_missing": "No replica",
    "alias_moved": "Alias moved",
    "protected_key_edited": "Protected key edited",
    "multi_region": "Regionality",
}


KEY_SHARES: Final[dict[str, str]] = {
    "state": "State",
    "rotation": "Rotation",
    "last_use": "Last use",
    "age": "Age",
    "origin": "Origin",
}
"""What the customer managed keys are counted by; the codes and labels are in the vocabularies `key_state` and so on."""
KEY_FACETS: Final = frozenset({"state", "rotation"})
"""Those that are facets of the table of keys."""
CRITICAL_AGES: Final[dict[str, str]] = {
    "day": "0 to 1 day",
    "week": "2 to 7 days",
    "month": "8 to 30 days",
    "quarter": "31 to 90 days",
    "older": "over 90 days",
}

CONTROL_STATES: Final[dict[str, str]] = {
    "fail": "Failed",
    "unknown": "Unknown",
    "pass": "Met",
    "not_applicable": "Not applicable",
}
"""The states of a control, in display order."""


def _words(labels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """A vocabulary whose CSS classes are its codes."""
    return {code: (label, code) for code, label in labels.items()}


VOCABULARIES: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "severity": {name: (name, name) for name in SEVERITIES},
    "manager": _words({"CUSTOMER": "Customer", "AWS": "AWS"}),
    "rotation": _words({"disabled": "disabled", "not_applicable": "not applicable", "enabled": "enabled"}),
    "state": {
        "PendingDeletion": ("Pending deletion", "bad"),
        "PendingReplicaDeletion": ("Pending replica deletion", "bad"),
        "Unavailable": ("Unavailable", "bad"),
        "Disabled": ("Disabled", "warn"),
        "PendingImport": ("Pending import", "warn"),
        "Creating": ("Creating", "warn"),
        "Updating": ("Updating", "warn"),
        "Enabled": ("Enabled", "ok"),
        "dangling": (CLASSES["dangling"], "bad"),
        "not_crawled": (CLASSES["not_crawled"], "unknown"),
        "unknown": (CLASSES["unknown"], "unknown"),
    },
    "key_class": _words(CLASSES),
    "key_state": {
        "Enabled": ("Enabled", "on"),
        "Disabled": ("Disabled", "off"),
        "PendingDeletion": ("Pending deletion", "fail"),
        "PendingReplicaDeletion": ("Pending replica deletion", "blocked_by_policy"),
        "PendingImport": ("Pending import", "waived"),
        "Unavailable": ("Unavailable", "not_crawled"),
        "Creating": ("Creating", "not_applicable"),
        "Updating": ("Updating", "not_applicable"),
        "unknown": ("Unknown", "unknown"),
    },
    "key_rotation": {
        "enabled": ("Enabled", "on"),
        "disabled": ("Disabled", "off"),
        "not_applicable": ("Not applicable", "not_applicable"),
        "unknown": ("Unknown", "unknown"),
    },
    "key_last_use": {
        "month": ("within 30 days", "on"),
        "quarter": ("within 90 days", "waived"),
        "longer": ("earlier", "not_applicable"),
        "never": ("never used", "off"),
        "unknown": ("Unknown", "unknown"),
    },
    "key_age": {
        "quarter": ("under 90 days", "on"),
        "year": ("under a year", "waived"),
        "three_years": ("one to three years", "not_applicable"),
        "older": ("older", "off"),
        "unknown": ("Unknown", "unknown"),
    },
    "key_origin": {
        "AWS_KMS": ("AWS KMS", "on"),
        "EXTERNAL": ("Imported", "off"),
        "AWS_CLOUDHSM": ("CloudHSM key store", "waived"),
        "EXTERNAL_KEY_STORE": ("External key store", "not_applicable"),
        "unknown": ("Unknown", "unknown"),
    },
    "agreement": {
        "not_agreed": ("not a known party", "bad"),
        "deviates": ("deviates", "warn"),
        "unknown": ("unknown", "unknown"),
        "no_profile": ("no profile", "info"),
        "agreed": ("as agreed", "good"),
    },
    "party": _PARTIES,
    # The party is named "Everyone" already.
    "external_party": {**_PARTIES, "public": ("Public", "bad")},
    "access": {
        "public": _PARTIES["public"],
        "public_via_service": ("Everyone, through a service", "bad"),
        "external": _PARTIES["external_account"],
        "vendor": _PARTIES["known_party"],
        "unknown": _PARTIES["unknown"],
        "deleted": _PARTIES["deleted_principal"],
        "organization": ("Another account", "ok"),
        "owner_direct": ("Own account", "ok"),
        "owner_delegated": ("Own account, through IAM", "ok"),
        "aws_service": _PARTIES["aws_service"],
    },
    "finding": _words(FINDINGS),
    "status_change": _words(STATUS_CHANGE_PHRASES),
    "vendor_result": _words(VENDOR_RESULTS),
    "vendor_mark": {
        "broken": (VENDOR_RESULTS["broken"], "critical"),
        "blocked_by_policy": (VENDOR_RESULTS["blocked_by_policy"], "bad"),
        "over_shared": (VENDOR_RESULTS["over_shared"], "bad"),
        "unknown": (VENDOR_RESULTS["unknown"], "unknown"),
        "accessible": (VENDOR_RESULTS["accessible"], "good"),
        "not_selected": (VENDOR_RESULTS["not_selected"], "info"),
        "denied_by_tag": (VENDOR_RESULTS["denied_by_tag"], "info"),
        "wrong": ("Deviation", "bad"),
        "advice": ("Advice", "info"),
        "shared": ("Can use it", "info"),
    },
    "control": _words(CONTROL_STATES),
    "outcome": {
        "complete": ("\u2713", "complete"),
        "failed": ("not read", "failed"),
        "excluded": ("excluded", "excluded"),
        "suspended": ("suspended", "suspended"),
        "left": ("left", "left"),
        "disabled": ("off", "disabled"),
        "not_in_run": ("never read", "failed"),
    },
}
"""The codes of the tables with their labels and CSS classes, in the order in which columns sort them."""


def status_changes(counts: Mapping[str, int]) -> str:
    """`3 new, 1 reopened, 2 resolved`, without zeros."""
    return ", ".join(f"{counts[name]:,} {word}" for name, word in STATUS_CHANGE_PHRASES.items() if counts.get(name))


def rule_state(rule: Mapping[str, Any]) -> str:
    """What a rule does, as the predicate of a sentence. Where passes are not counted (None), no rule passes."""
    if rule["fail"]:
        return "fails"
    if rule["unknown"]:
        return "has unknown results"
    if rule["pass"] is None:
        return "has no open finding"
    return "passes" if rule["pass"] or rule["waived"] else "does not apply"


def rules_by_state(rules: list[dict[str, Any]]) -> str:
    """The number of rules that fail, have unknown results, pass, or do not apply."""
    counts = Counter(map(rule_state, rules))
    plurals = {
        "fails": "fail",
        "has unknown results": "have unknown results",
        "passes": "pass",
        "does not apply": "do not apply",
        "has no open finding": "have no open finding",
    }
    return ", ".join(counted(counts[state], state, plural) for state, plural in plurals.items() if counts[state])


def controls_by_state(framework: Mapping[str, int]) -> str:
    """The number of controls that failed, are unknown, are met, and do not apply."""
    parts = (
        ("fail", "failed"),
        ("unknown", "unknown"),
        ("pass", "met"),
        ("not_applicable", "not applicable"),
    )
    return ", ".join(f"{framework[name]:,} {word}" for name, word in parts if framework[name])


def account(account_id: str, name: str | None) -> str:
    """An account by name and ID."""
    return f"{name} ({account_id})" if name else account_id


def account_region(row: dict[str, Any]) -> str:
    """Account and region of a row."""
    where = account(row["account_id"], row["account_name"]) if row["account_id"] else "no account"
    return f"{where}, {region(row['region'])}" if row["region"] else where


def enumeration(items: list[str], limit: int = 3) -> str:
    """The items of a list in a sentence, at most `limit` of them: `a, b and c`, `a, b, c and 2 more`."""
    left = len(items) - limit
    if left > 0:
        return f"{', '.join(items[:limit])} and {left:,} more"
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def by_service(services: list[dict[str, Any]]) -> str:
    """The dependents of a key per service, as `2 RDS, 1 S3`."""
    return ", ".join(f"{entry['resources']:,} {service_label(entry['service'])}" for entry in services)


def unread_scope(row: dict[str, Any]) -> str:
    """One line for a row of `unread_scopes.sql`."""
    regions = enumeration([region(name) for name in row["regions"]])
    if row["actions"] is None:
        return f"{account(row['account_id'], row['account_name'])}, {regions}: nothing was read: {row['cause']}."
    if row["accounts"] > 1:
        where = counted(row["accounts"], "account")
    else:
        where = f"{account(row['account_id'], row['account_name'])}, {regions}"
    return f"{enumeration(row['actions'])} in {where}: {counted(row['answers'], 'response')} missing: {row['cause']}."
