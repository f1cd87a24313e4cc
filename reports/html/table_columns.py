"""The big tables of the reports: columns and, for the note below a table that was cut, the SQL that returns all rows."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Column:
    """A column: `slug` names it in links (`#keys&sort=-age`), `kind` is its CSS class."""

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
            Column("place", "Account, region"),
            Column("manager", "Managed by, spec"),
            Column("state", "State"),
            Column("rotation", "Rotation"),
            Column("protects", "Protects", "num"),
            Column("grants", "Grants", "num"),
            Column("age", "Age, days", "num"),
        ),
        "SELECT * FROM keys ORDER BY account_id, region, alias",
    ),
    "protects": Table(
        (
            Column("key", "Key", "wide"),
            Column("place", "Account, region"),
            Column("state", "State"),
            Column("what", "What", "wide"),
            Column("resources", "Resources", "num"),
        ),
        "SELECT key_arn, service, resource_arn, role FROM resource_keys WHERE key_arn IS NOT NULL ORDER BY key_arn",
    ),
    "usage": Table(
        (
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
            Column("role", "Role"),
            Column("class", "Kind of key"),
            Column("by", "Key, or why it is not known", "wide"),
        ),
        "SELECT * FROM resource_keys WHERE service = '{}' ORDER BY key_class, resource_arn",
    ),
    "parties": Table(
        (
            Column("who", "Who is named", "wide"),
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
            Column("what", "What changed", "wide"),
            Column("place", "Account, region"),
            Column("before", "Before"),
            Column("after", "After"),
        ),
        "SELECT * FROM changes WHERE run_id = {} ORDER BY severity, subject",
    ),
    "vendors": Table(
        (
            Column("profile", "Profile", "wide"),
            Column("share", "Keys by verdict", "chart"),
            Column("keys", "Keys", "num"),
            Column("broken", "Broken", "num"),
            Column("blocked", "Blocked", "num"),
            Column("over", "Over-shared", "num"),
            Column("unknown", "Unknown", "num"),
            Column("wrong", "Findings", "num"),
            Column("deadline", "Next deadline"),
        ),
        "SELECT profile, verdict, count(*) FROM vendor_checks GROUP BY ALL ORDER BY ALL",
    ),
    "vendor": Table(
        (
            Column("verdict", "Verdict"),
            Column("key", "Key or role", "wide"),
            Column("place", "Account, region"),
            Column("reason", "Why", "wide"),
            Column("deadline", "Deadline"),
            Column("since", "Since"),
        ),
        "SELECT * FROM vendor_checks WHERE profile = '{}' ORDER BY severity, verdict, key_arn",
    ),
    "rules": Table(
        (
            Column("severity", "Severity"),
            Column("rule", "Rule", "wide"),
            Column("share", "Shares", "chart"),
            Column("turned", "Since the last run"),
            Column("fail", "Fail", "num"),
            Column("unknown", "Unknown", "num"),
            Column("waived", "Waived", "num"),
            Column("pass", "Pass", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT rule_id, status, count(*) FROM findings GROUP BY ALL ORDER BY ALL",
    ),
    "turned": Table(
        (
            Column("turned", "Turned"),
            Column("severity", "Severity"),
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
            Column("verdict", "Rule and reason", "wide"),
            Column("owner", "Owner"),
        ),
        "SELECT * FROM findings WHERE status IN ('fail', 'unknown') AND since = (SELECT max(started_at) FROM runs)",
    ),
    "undecided": Table(
        (
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
            Column("rules", "Rules", "num"),
            Column("reason", "What the gravest of them says", "wide"),
        ),
        "SELECT resource_arn, count(*) FROM findings WHERE status = 'unknown' GROUP BY ALL ORDER BY 2 DESC",
    ),
    "quiet": Table(
        (
            Column("family", "Family"),
            Column("rules", "Rules", "num"),
            Column("which", "Which", "wide"),
            Column("pass", "Pass", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT family, rule_id, sum(pass), sum(not_applicable) FROM rule_results GROUP BY ALL ORDER BY ALL",
    ),
    "findings": Table(
        (
            Column("status", "Status"),
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
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
            Column("unknown", "Not fully known", "num"),
            Column("met", "Met", "num"),
            Column("idle", "Nothing to judge", "num"),
        ),
        "SELECT * FROM frameworks ORDER BY title, version",
    ),
    "waivers": Table(
        (
            Column("waiver", "Waiver", "wide"),
            Column("rule", "Rule", "wide"),
            Column("what", "What it is for", "wide"),
            Column("reason", "Reason", "wide"),
            Column("owner", "Owner"),
            Column("ticket", "Ticket"),
            Column("expires", "Holds until"),
            Column("waives", "Waives", "num"),
        ),
        "SELECT * FROM waivers ORDER BY expired, expires, rule_id, waiver",
    ),
    "gaps": Table(
        (
            Column("account", "Account"),
            Column("region", "Region"),
            Column("action", "Action"),
            Column("subject", "Subject", "wide"),
            Column("cause", "Why it is not known", "wide"),
            Column("since", "Since"),
            Column("runs", "Runs", "num"),
        ),
        "SELECT * FROM coverage WHERE outcome = 'gap' ORDER BY account_id, region, action",
    ),
}
