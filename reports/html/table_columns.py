"""The large tables of the reports: their columns, and the SQL that returns all rows of a limited table."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Column:
    """A column: `slug` is its name in links (`#keys&sort=-age`), `kind` its CSS class."""

    slug: str
    label: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    columns: tuple[Column, ...]
    sql: str


TABLES: Final[dict[str, Table]] = {
    "keys": Table(
        (
            Column("key", "Key", "wide"),
            Column("account_region", "Account, region"),
            Column("manager", "Managed by, spec"),
            Column("state", "State"),
            Column("rotation", "Rotation"),
            Column("protects", "Dependents", "num"),
            Column("grants", "Grants", "num"),
            Column("age", "Age, days", "num"),
        ),
        "SELECT * FROM keys ORDER BY account_id, region, alias",
    ),
    "protects": Table(
        (
            Column("key", "Key", "wide"),
            Column("account_region", "Account, region"),
            Column("state", "State"),
            Column("dependents", "Dependents", "wide"),
            Column("resources", "Resources", "num"),
        ),
        "SELECT key_arn, service, resource_arn, role FROM resource_keys WHERE key_arn IS NOT NULL ORDER BY key_arn",
    ),
    "usage": Table(
        (
            Column("resource", "Resource", "wide"),
            Column("account_region", "Account, region"),
            Column("role", "Role"),
            Column("class", "Key class"),
            Column("by", "Key, or why it is unknown", "wide"),
        ),
        "SELECT * FROM resource_keys WHERE service = '{}' ORDER BY key_class, resource_arn",
    ),
    "parties": Table(
        (
            Column("principal", "Principal", "wide"),
            Column("party", "Party"),
            Column("effect", "Effect"),
            Column("actions", "Actions", "wide"),
            Column("conditions", "Conditions"),
            Column("keys", "Keys", "num"),
        ),
        "SELECT * FROM key_principals ORDER BY party, principal, key_arn",
    ),
    "changes": Table(
        (
            Column("severity", "Severity"),
            Column("change", "Change", "wide"),
            Column("account_region", "Account, region"),
            Column("before", "Before"),
            Column("after", "After"),
        ),
        "SELECT * FROM changes WHERE run_id = {} ORDER BY severity, subject",
    ),
    "vendors": Table(
        (
            Column("profile", "Profile", "wide"),
            Column("share", "Keys by result", "chart"),
            Column("keys", "Keys", "num"),
            Column("broken", "Broken", "num"),
            Column("blocked", "Blocked", "num"),
            Column("over", "Over-shared", "num"),
            Column("unknown", "Unknown", "num"),
            Column("wrong", "Findings", "num"),
            Column("deadline", "Next deadline"),
        ),
        "SELECT profile, result, count(*) FROM vendor_checks GROUP BY ALL ORDER BY ALL",
    ),
    "vendor": Table(
        (
            Column("result", "Result"),
            Column("key", "Key or role", "wide"),
            Column("account_region", "Account, region"),
            Column("reason", "Reason", "wide"),
            Column("deadline", "Deadline"),
            Column("since", "Since"),
        ),
        "SELECT * FROM vendor_checks WHERE profile = '{}' ORDER BY severity, result, key_arn",
    ),
    "rules": Table(
        (
            Column("severity", "Severity"),
            Column("rule", "Rule", "wide"),
            Column("share", "Shares", "chart"),
            Column("changes", "Since the last run"),
            Column("fail", "Fail", "num"),
            Column("unknown", "Unknown", "num"),
            Column("waived", "Waived", "num"),
            Column("pass", "Pass", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT rule_id, sum(failed), sum(unknown), sum(waived), sum(passed), sum(not_applicable) FROM rule_results GROUP BY ALL",
    ),
    "status_changes": Table(
        (
            Column("change", "Change"),
            Column("severity", "Severity"),
            Column("resource", "Resource", "wide"),
            Column("account_region", "Account, region"),
            Column("rule", "Rule and reason", "wide"),
            Column("owner", "Owner"),
        ),
        "SELECT * FROM findings WHERE status IN ('fail', 'unknown') AND since = (SELECT max(started_at) FROM runs)",
    ),
    "unknown_resources": Table(
        (
            Column("resource", "Resource", "wide"),
            Column("account_region", "Account, region"),
            Column("rules", "Rules", "num"),
            Column("reason", "Reason of the most severe", "wide"),
        ),
        "SELECT resource_arn, count(*) FROM findings WHERE status = 'unknown' GROUP BY ALL ORDER BY 2 DESC",
    ),
    "passing_rules": Table(
        (
            Column("family", "Family"),
            Column("rules", "Rules", "num"),
            Column("names", "Rules by name", "wide"),
            Column("pass", "Pass", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT family, rule_id, sum(passed), sum(not_applicable) FROM rule_results GROUP BY ALL ORDER BY ALL",
    ),
    "findings": Table(
        (
            Column("status", "Status"),
            Column("resource", "Resource", "wide"),
            Column("account_region", "Account, region"),
            Column("reason", "Reason", "wide"),
            Column("owner", "Owner"),
            Column("open", "Open, days", "num"),
        ),
        "SELECT * FROM findings WHERE rule_id = '{}' ORDER BY status, resource_arn",
    ),
    "frameworks": Table(
        (
            Column("framework", "Framework", "wide"),
            Column("share", "Controls by state", "chart"),
            Column("controls", "Controls", "num"),
            Column("failed", "Failed", "num"),
            Column("unknown", "Unknown", "num"),
            Column("met", "Met", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT * FROM frameworks ORDER BY title, version",
    ),
    "waivers": Table(
        (
            Column("waiver", "Waiver", "wide"),
            Column("rule", "Rule", "wide"),
            Column("what", "Resources", "wide"),
            Column("reason", "Reason", "wide"),
            Column("owner", "Owner"),
            Column("ticket", "Ticket"),
            Column("expires", "Valid until"),
            Column("waives", "Waived", "num"),
        ),
        "SELECT * FROM waivers ORDER BY expired, expires, rule_id, waiver",
    ),
    "gaps": Table(
        (
            Column("account", "Account"),
            Column("region", "Region"),
            Column("action", "Action"),
            Column("subject", "Subject", "wide"),
            Column("cause", "Cause", "wide"),
            Column("since", "Since"),
            Column("runs", "Runs", "num"),
        ),
        "SELECT * FROM coverage WHERE outcome = 'gap' ORDER BY account_id, region, action",
    ),
}
