"""A small organization whose access is worked out by hand: a shop, a data account that owns keys, a vendor.

The keys: SHARED allows account SHOP and names a role of it; NAMED does not delegate to IAM; UNREAD cannot be read.
The secrets of account SHOP: `app` uses SHARED (across accounts), `own` uses LOCAL, a key of its account that delegates to IAM.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.tables import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    ResourcePolicy,
    Tag,
)
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import LedgerBuilder

SHOP, DATA, OTHER, VENDOR = "111122223333", "444455556666", "777788889999", "754581900792"
IRELAND = "eu-west-1"
USE = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
GET, DECRYPT = "secretsmanager:GetSecretValue", "kms:Decrypt"
VIA = f"secretsmanager.{IRELAND}.amazonaws.com"


def arn(account: str, number: int) -> str:
    """The ARN of the key with a number."""
    return f"arn:aws:kms:{IRELAND}:{account}:key/00000000-0000-4000-8000-{number:012d}"


SHARED, NAMED, UNREAD, LOCAL, MANAGED = arn(DATA, 1), arn(DATA, 2), arn(DATA, 3), arn(SHOP, 4), arn(SHOP, 5)


def who(account: str, name: str) -> str:
    """The ARN of a user or role: ``role/app``."""
    return f"arn:aws:iam::{account}:{name}"


def allow(actions: str | list[str], resource: str | list[str] = "*", **elements: Any) -> dict[str, Any]:
    """An Allow statement."""
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **elements}


def identity(world: LedgerBuilder, name_arn: str, *statements: dict[str, Any], **values: Any) -> str:
    """Add a user or role with an inline policy ``own`` of these statements, and return its ARN."""
    account, resource = name_arn.split(":")[4], name_arn.rpartition(":")[2]
    kind, _, name = resource.partition("/")
    trust = world.document({"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"})
    hashed = {"policy_hash": trust} if kind == "role" else {}
    world.add(IamPrincipal, arn=name_arn, account_id=account, type=kind, name=name, path="/", **hashed, **values)
    if statements:
        world.add(
            IamInlinePolicy,
            owner_arn=name_arn,
            name="own",
            account_id=account,
            policy_hash=world.document(*statements),
        )
    return name_arn


def managed(world: LedgerBuilder, account: str, name: str, *statements: dict[str, Any]) -> str:
    """Add a managed policy, and return its ARN."""
    policy_arn = f"arn:aws:iam::{account}:policy/{name}"
    world.add(
        IamManagedPolicy,
        policy_arn=policy_arn,
        account_id=account,
        name=name,
        default_version="v1",
        policy_hash=world.document(*statements),
    )
    return policy_arn


def secret_policy(world: LedgerBuilder, secret: str, *statements: dict[str, Any]) -> None:
    """Set the policy of a secret; without statements it has no policy."""
    world.add(ResourcePolicy, resource_arn=secret, policy_hash=world.document(*statements) if statements else None)


def organization(path: Path, *, iam: bool = True) -> LedgerBuilder:
    """The organization before its first crawl; without ``iam``, IAM was not collected."""
    world = LedgerBuilder(f"sqlite:///{path}")
    for account, name in ((SHOP, "Shop"), (DATA, "Data"), (OTHER, "Other")):
        world.account(account, name, IRELAND, "global")
    _keys(world)
    _secrets(world)
    if iam:
        _iam(world)
    return world


def _keys(world: LedgerBuilder) -> None:
    app = who(SHOP, "role/app")
    shop: dict[str, Any] = {"Sid": "Shop", "Principal": {"AWS": who(SHOP, "root")}}
    only_secrets = {"StringEquals": {"kms:ViaService": VIA}}
    for key_arn, statements in (
        (SHARED, [root_statement(DATA), allow(USE, **shop), allow(DECRYPT, Sid="App", Principal={"AWS": app})]),
        (NAMED, [allow(USE, Sid="Reader", Principal={"AWS": who(DATA, "role/reader")})]),
        (UNREAD, None),
        (
            LOCAL,
            [
                root_statement(SHOP),
                allow(DECRYPT, Sid="Secrets", Principal={"AWS": who(SHOP, "role/named")}, Condition=only_secrets),
            ],
        ),
    ):
        world.key(key_arn.split(":")[4], IRELAND, key_arn.rpartition("/")[2], policy=statements)
    world.key(SHOP, IRELAND, MANAGED.rpartition("/")[2], policy=None, manager="AWS")
    for name, key_arn in (("shared", SHARED), ("named", NAMED), ("local", LOCAL), ("aws/secretsmanager", MANAGED)):
        world.alias(f"alias/{name}", key_arn)
    for action in ("kms:GetKeyPolicy", "kms:ListGrants"):
        world.gap(DATA, IRELAND, action, UNREAD, "key_policy", message=_denied(action, UNREAD))
    world.grant(SHARED, "ab" * 32, grantee_principal=who(SHOP, "role/batch"), operations='["Decrypt"]')
    world.grant(
        LOCAL, "cd" * 32, grantee_principal=f"arn:aws:iam::{VENDOR}:root", operations='["Decrypt","DescribeKey"]'
    )


def _denied(action: str, subject: str) -> str:
    return (
        f"User: arn:aws:sts::{DATA}:assumed-role/KmsLedger/crawl is not authorized to perform: {action} on resource: {subject} "
        f"because no resource-based policy allows the {action} action"
    )


def _secrets(world: LedgerBuilder) -> None:
    for name, key_arn in (("app", SHARED), ("own", LOCAL)):
        world.uses(world.secret(SHOP, IRELAND, name), key_arn, role="secret")
        secret_policy(world, secret(name))
    world.uses(world.secret(SHOP, IRELAND, "default"), MANAGED, "aws_managed", role="secret", raw_value=None)
    secret_policy(world, secret("default"))
    other: dict[str, Any] = {"Sid": "Other reads", "Principal": {"AWS": who(OTHER, "root")}}
    deny = {"Effect": "Deny", "Principal": {"AWS": who(SHOP, "role/batch")}, "Action": GET, "Resource": "*"}
    secret_policy(world, secret("own"), allow(GET, **other), deny)
    world.uses(world.database(SHOP, IRELAND, "orders", encryption="true"), LOCAL)


def secret(name: str) -> str:
    """The ARN of a secret."""
    return f"arn:aws:secretsmanager:{IRELAND}:{SHOP}:secret:{name}-AbCdEf"


def _iam(world: LedgerBuilder) -> None:
    for account in (SHOP, DATA, OTHER):
        world.add(IamScan, account_id=account)
    read = allow(GET, f"arn:aws:secretsmanager:*:{SHOP}:secret:*")
    identity(world, who(SHOP, "role/app"), read)  # can read secrets, but cannot decrypt
    identity(world, who(SHOP, "role/batch"), read, allow(DECRYPT, [SHARED, LOCAL]))
    identity(world, who(SHOP, "role/named"), read)
    identity(world, who(SHOP, "role/keys-only"), allow("kms:*"))
    boundary = managed(world, SHOP, "boundary", {"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"})
    bounded = identity(world, who(SHOP, "role/bounded"), permissions_boundary_arn=boundary)
    administrator = managed(world, SHOP, "everything", allow("*"))
    world.add(IamAttachment, owner_arn=bounded, policy_arn=administrator, account_id=SHOP)
    ada = identity(world, who(SHOP, "user/ada"))
    group = who(SHOP, "group/admins")
    world.add(IamGroup, arn=group, account_id=SHOP, name="admins", path="/")
    world.add(IamMembership, user_arn=ada, group_name="admins", account_id=SHOP)
    world.add(IamAttachment, owner_arn=group, policy_arn=administrator, account_id=SHOP)
    denied = identity(world, who(SHOP, "user/eve"), {"Effect": "Deny", "Action": "kms:Decrypt", "NotResource": NAMED})
    world.add(IamAttachment, owner_arn=denied, policy_arn=administrator, account_id=SHOP)
    identity(world, who(DATA, "role/reader"))
    tagged = {"StringEquals": {"aws:PrincipalTag/team": "data"}}
    identity(world, who(DATA, "user/tagged"), allow(DECRYPT, SHARED, Condition=tagged))
    identity(world, who(DATA, "user/untagged"), allow(DECRYPT, SHARED, Condition=tagged))
    world.add(Tag, resource_arn=who(DATA, "user/tagged"), tag_key="team", tag_value="data")
    identity(world, who(OTHER, "role/visitor"), allow([GET, DECRYPT]))
