"""An organization with every kind of situation, and the checks that hold for the situations of any mart."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb

from models.settings import Settings
from models.severities import SEVERITIES
from models.tables import KeyMetadata
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder, settings_of

SHOP, DATA, UNREAD = "111122223333", "444455556666", "222233334444"
CHECKMARX, STRANGER = "754581900792", "999900001111"
IRELAND = "eu-west-1"
HOSTILE = "shop/'; rm -rf $(x) <script>alert(1)</script>"
SECOND_RUN = FIRST_RUN + dt.timedelta(days=1)
DELETION = SECOND_RUN + dt.timedelta(days=3)
VENDOR_KEYS = ("alias/going", "alias/off", "alias/blocked", "alias/wide")


def allow(principal: str, *actions: str, sid: str = "Other") -> dict[str, object]:
    """A statement that lets an account, or `*`, use the key."""
    return {"Sid": sid, "Effect": "Allow", "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"}


def situation_settings(folder: Path) -> Settings:
    """The settings of the organization, with the keys that the vendor needs."""
    return settings_of(
        database=f"sqlite:///{folder / 'ledger.db'}",
        report={"mart": folder / "mart.duckdb", "directory": folder / "out"},
        known_external_parties=[{"name": "Checkmarx", "accounts": [CHECKMARX]}],
        vendors={
            "profiles": {
                "checkmarx-one": {
                    "accounts": [SHOP],
                    "keys": list(VENDOR_KEYS),
                    "parameters": {"tenant_region": IRELAND},
                }
            }
        },
        owners=[{"account": SHOP, "owner": "team shop"}],
    )


def write_organization(url: str) -> None:
    """Crawl the organization twice; between the runs, a key is scheduled for deletion."""
    world = LedgerBuilder(url)
    world.account(SHOP, "Shop", IRELAND)
    world.account(DATA, "Data & <b>Research</b>", IRELAND)
    world.account(UNREAD, "Locked", IRELAND)
    world.outcomes[UNREAD, IRELAND] = ("failed", "the role does not exist or does not trust the crawler")
    use = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]
    vendor = [root_statement(SHOP), allow(CHECKMARX, *use, sid="use")]
    numbers = iter(range(1, 100))

    def key(name: str, account: str = SHOP, **values: Any) -> str:
        arn = world.key(account, IRELAND, f"00000000-0000-4000-8000-{next(numbers):012d}", **values)
        if name:
            world.alias(f"alias/{name}", arn)
        return arn

    going = key("going", policy=vendor)
    for resource in (
        world.secret(SHOP, IRELAND, HOSTILE),
        world.database(SHOP, IRELAND, "orders"),
        world.secret(SHOP, IRELAND, "shop/second"),
    ):
        world.uses(resource, going)
    off = key("off", policy=vendor, state="Disabled", enabled=False)
    lost = world.database(SHOP, IRELAND, "it's lost", status="inaccessible-encryption-credentials-recoverable")
    world.uses(lost, off)
    for number in range(2):
        gone = world.secret(DATA, IRELAND, f"gone-{number}")
        world.uses(
            gone, f"arn:aws:kms:{IRELAND}:{DATA}:key/0dead000-0000-4000-8000-000000000000", "dangling", role="secret"
        )
    for _ in range(3):
        key("", DATA, state="PendingDeletion", enabled=False, deletion_date=DELETION)
    expiring = key(
        "imported", DATA, origin="EXTERNAL", material_expires_at=SECOND_RUN + dt.timedelta(days=9),
        expiration_model="KEY_MATERIAL_EXPIRES",
    )  # fmt: skip
    world.uses(world.secret(DATA, IRELAND, "imported"), expiring, role="secret")
    key("public", DATA, policy=[root_statement(DATA), allow("*", "kms:Decrypt")])
    for number in range(2):
        key(f"stranger-{number}", DATA, policy=[root_statement(DATA), allow(STRANGER, "kms:Decrypt")])
    granted = key("granted", DATA)
    world.grant(granted, "00ff" * 16, grantee_principal=f"arn:aws:iam::{STRANGER}:role/reader")
    key("blocked")
    key("wide", policy=[root_statement(SHOP), allow(CHECKMARX, "kms:*", sid="all")])
    key("locked-out", DATA, policy=[allow(f"arn:aws:iam::{DATA}:role/app", "kms:Decrypt")])
    for number in range(2):
        world.uses(world.database(DATA, IRELAND, f"plain-{number}", encryption="none"), None, "none")
    hidden = key("hidden", DATA)
    for action in ("DescribeKey", "GetKeyPolicy", "ListGrants"):
        world.gap(DATA, IRELAND, f"kms:{action}", hidden, "key_policy")
    foreign = f"arn:aws:kms:{IRELAND}:{UNREAD}:key/00000000-0000-4000-8000-000000000000"
    world.uses(world.secret(DATA, IRELAND, "of the locked account"), foreign, "not_crawled", role="secret")
    world.crawl()
    world.change(KeyMetadata, going, state="PendingDeletion", enabled=False, deletion_date=DELETION)
    world.crawl()


def broken_rules(mart: duckdb.DuckDBPyConnection) -> list[str]:
    """What is wrong with the situations of a mart; empty if nothing is.

    Every open finding of high or critical severity is in exactly one situation, with its own severity; no resource is in two;
    counts, severities and accounts are those of the findings.
    """
    queries = {
        "missing or repeated finding": """
            SELECT f.rule_id, f.resource_arn FROM findings f
            LEFT JOIN situation_findings s USING (rule_id, resource_arn)
            WHERE f.status IN ('fail', 'unknown') AND f.severity IN ('critical', 'high')
            GROUP BY ALL HAVING count(s.situation_id) <> 1
        """,
        "not an open finding": """
            SELECT s.rule_id, s.resource_arn FROM situation_findings s
            ANTI JOIN findings f ON f.rule_id = s.rule_id AND f.resource_arn = s.resource_arn AND f.status = s.status
              AND f.severity = s.severity AND f.status IN ('fail', 'unknown')
        """,
        "resource in two situations": """
            SELECT resource_arn, list(DISTINCT kind || ' ' || cause) FROM situation_findings
            GROUP BY resource_arn HAVING count(DISTINCT situation_id) > 1
        """,
        "situation that differs from its findings": f"""
            SELECT s.kind, s.cause, s.severity, s.failed, s.unknown FROM situations s
            FULL JOIN (
              SELECT situation_id, count(*) FILTER (status = 'fail') AS failed, count(*) FILTER (status = 'unknown') AS unknown,
                coalesce({list(SEVERITIES)}[min(list_position({list(SEVERITIES)}, severity)) FILTER (status = 'fail')], 'medium')
                  AS severity
              FROM situation_findings GROUP BY situation_id
            ) f USING (situation_id)
            WHERE (s.failed, s.unknown, s.severity) IS DISTINCT FROM (f.failed, f.unknown, f.severity)
        """,
        "repeated situation": "SELECT situation_id FROM situations GROUP BY 1 HAVING count(*) > 1",
        "vendor check with another severity than its finding": f"""
            SELECT v.rule_id, v.resource_arn, f.severity
            FROM (
              SELECT *, CASE WHEN result = 'over_shared' THEN 'vendor-over-shared'
                  WHEN subject_type = 'key' THEN 'vendor-key-usable'
                  WHEN starts_with(check_name, 'external_id_') THEN 'vendor-external-id' ELSE 'vendor-profile' END AS rule_id,
                coalesce(key_arn, CASE WHEN starts_with(subject, 'arn:') THEN subject END, account_id || '/' || region,
                  account_id, profile) AS resource_arn
              FROM vendor_checks WHERE result IN ('broken', 'blocked_by_policy', 'over_shared', 'wrong')
            ) v
            JOIN findings f ON f.rule_id = v.rule_id AND f.resource_arn = v.resource_arn AND f.status = 'fail'
            GROUP BY v.rule_id, v.resource_arn, f.severity
            HAVING list_position({list(SEVERITIES)}, f.severity) <> min(list_position({list(SEVERITIES)}, v.severity))
        """,
    }
    queries["change with another severity than the finding about its result"] = """
        SELECT c.event_type, c.key_arn, c.severity, f.rule_id, f.severity
        FROM changes c
        JOIN (VALUES ('deletion_scheduled', 'key-pending-deletion'), ('key_state', 'key-unusable-in-use'),
          ('key_gone', 'key-unusable-in-use')) e(event_type, rule_id) USING (event_type)
        JOIN findings f ON f.rule_id = e.rule_id AND f.resource_arn = c.key_arn AND f.status = 'fail'
        WHERE c.run_id = (SELECT max(run_id) FROM runs) AND c.severity <> f.severity
    """
    return [f"{name}: {row}" for name, query in queries.items() for row in mart.execute(query).fetchall()]
