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
        "SELECT key_arn, service, resource_arn, role FROM key_usage WHERE key_arn IS NOT NULL ORDER BY key_arn",
    ),
    "usage": Table(
        (
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
            Column("role", "Role"),
            Column("class", "Kind of key"),
            Column("by", "Key, or why it is not known", "wide"),
        ),
        "SELECT * FROM key_usage WHERE service = '{}' ORDER BY key_class, resource_arn",
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
            Column("fail", "Fail", "num"),
            Column("unknown", "Unknown", "num"),
            Column("waived", "Waived", "num"),
            Column("pass", "Pass", "num"),
            Column("na", "Not applicable", "num"),
        ),
        "SELECT rule_id, status, count(*) FROM findings GROUP BY ALL ORDER BY ALL",
    ),
    "findings": Table(
        (
            Column("status", "Status"),
            Column("resource", "Resource", "wide"),
            Column("place", "Account, region"),
            Column("reason", "Reason", "wide"),
            Column("owner", "Owner"),
            Column("first_failed", "Fails since"),
            Column("since", "Status since"),
        ),
        "SELECT * FROM findings WHERE rule_id = '{}' ORDER BY status, resource_arn",
    ),
    "gaps": Table(
        (
            Column("account", "Account"),
            Column("region", "Region"),
            Column("action", "Action"),
            Column("subject", "Subject", "wide"),
            Column("cause", "Why it is not known", "wide"),
            Column("since", "Since"),
            Column("nights", "Nights", "num"),
        ),
        "SELECT * FROM coverage WHERE outcome = 'gap' ORDER BY account_id, region, action",
    ),
}
