"""Users and roles with access through a key policy that delegates to IAM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.tables import IamAttachment, IamGroup, IamInlinePolicy, IamManagedPolicy, IamMembership, IamPrincipal
from reports.mart.connection import connect
from tests.reports.ledger_builder import LedgerBuilder, build_mart, settings_of

ACCOUNT, REGION = "111122223333", "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
MANAGED, BOUNDARY = (f"arn:aws:iam::{ACCOUNT}:policy/{name}" for name in ("decrypt", "edge"))
ROLE, BOUND, USER, DENIED, GROUP = (
    f"arn:aws:iam::{ACCOUNT}:{name}" for name in ("role/app", "role/bound", "user/ada", "user/eve", "group/dev")
)


def _statement(action: str, effect: str = "Allow", resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource} | more


def test_roles_users_and_groups(tmp_path: Path) -> None:
    """Attached, inline and group policies apply to the keys they name, less Deny statements, boundaries and conditions."""
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(ACCOUNT, "Shop", REGION)
    world.key(ACCOUNT, REGION, "1")
    world.key(ACCOUNT, REGION, "2", policy=[])
    for arn, kind, bounded_by in (
        *((ROLE, "role", None), (BOUND, "role", BOUNDARY)),
        *((USER, "user", None), (DENIED, "user", None)),
    ):
        name = arn.rpartition("/")[2]
        world.add(IamPrincipal, arn=arn, account_id=ACCOUNT, type=kind, name=name, permissions_boundary_arn=bounded_by)
    world.add(IamGroup, arn=GROUP, account_id=ACCOUNT, name="dev")
    for user in (USER, DENIED):
        world.add(IamMembership, user_arn=user, group_name="dev", account_id=ACCOUNT)
    version = {"account_id": ACCOUNT, "default_version": "v1"}
    decrypt, edge = world.document(_statement("kms:Decrypt")), world.document(_statement("kms:Enc*"))
    world.add(IamManagedPolicy, policy_arn=MANAGED, name="decrypt", policy_hash=decrypt, **version)
    world.add(IamManagedPolicy, policy_arn=BOUNDARY, name="edge", policy_hash=edge, **version)
    world.add(IamAttachment, owner_arn=ROLE, policy_arn=MANAGED, account_id=ACCOUNT)
    inline = {
        (BOUND, "all"): [_statement("kms:*")],
        (GROUP, "team"): [
            _statement("kms:Encrypt", resource=KEY),
            _statement("kms:Sign", resource=f"{KEY}9"),
            _statement("kms:Decrypt", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}}),
        ],
        (DENIED, "never"): [
            _statement("kms:*"),
            _statement("kms:[A-Z]*", "Deny"),
            _statement("kms:*", "Deny", f"{KEY}*"),
        ],
    }
    for (owner, name), statements in inline.items():
        digest = world.document(*statements)
        world.add(IamInlinePolicy, owner_arn=owner, name=name, account_id=ACCOUNT, policy_hash=digest)
    world.crawl()
    settings = settings_of(database=world.url, report={"mart": tmp_path / "mart.duckdb"})
    build_mart(settings)
    columns_of_iam = "key_arn, principal, source_id, access, operations, reason"
    query = f"SELECT {columns_of_iam} FROM internal.key_access_iam ORDER BY principal, access"
    columns = "SELECT key_arn, principal, path, source_id, access, operations"
    parts = f"{columns} FROM internal.key_access UNION ALL {columns} FROM internal.key_access_iam"
    with connect(settings.report.mart) as mart:
        found = mart.execute(query).fetchall()
        effective = mart.execute(f"{columns} FROM effective_access ORDER BY ALL").fetchall()
        assert effective == mart.execute(f"FROM ({parts}) ORDER BY ALL").fetchall()
        of_iam = "SELECT DISTINCT region, since_run, message IS NULL FROM effective_access WHERE path = 'iam'"
        assert mart.execute(of_iam).fetchall() == [(None, None, False)]
    assert {(KEY, ROLE, "iam", "decrypt"), (KEY, f"arn:aws:iam::{ACCOUNT}:root", "policy", "Enable IAM policies")} <= {
        row[:4] for row in effective
    }
    assert found == [
        (KEY, ROLE, "decrypt", "owner_delegated", ["kms:Decrypt"], ""),
        (KEY, BOUND, "all", "owner_delegated", ["kms:Encrypt"], ""),
        (KEY, USER, "team", "owner_delegated", ["kms:Encrypt"], ""),
        (
            KEY,
            USER,
            "team",
            "unknown",
            ["kms:Decrypt"],
            "its conditions on aws:MultiFactorAuthPresent are not evaluated",
        ),
    ]
