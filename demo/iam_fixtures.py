"""Who works in the demo organization: IAM users, groups, roles and their policies, as far as they decide about keys.

`people` makes all of them and returns the names by which `demo.organization.World` knows them.
"""

from __future__ import annotations

from collections.abc import Mapping

from demo import policies
from demo.account_region_builder import Place

ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"
LAMBDA = {"Service": "lambda.amazonaws.com"}


def people(places: Mapping[str, Place], things: Mapping[str, str]) -> dict[str, str]:
    """Principals of several accounts (by name), and the policy of a secret that lets another account read it."""
    data, payments, platform, lab = (places[name] for name in ("data", "payments", "platform", "lab"))
    application = data.role(
        "ReportsApplication",
        policies.trust(LAMBDA, None),
        policies.identity("ReadItsSecrets", "kms:Decrypt", things["secrets_key"]),
    )
    administrator = lab.role("Admin", policies.trust(policies.root(lab.account), None))
    lab.attach("role", "Admin", ADMINISTRATOR_ACCESS)
    partner = platform.role(
        "PartnerIntegration",
        policies.trust(policies.root(policies.STRANGER_ACCOUNT), "partner-northwind"),
        policies.identity("UseSharedServices", ["kms:Decrypt", "kms:GenerateDataKey"], things["shared_key"]),
    )
    _share(data, things["key_arn_secret"], platform.account)
    return {
        "application_role": application,
        "administrator_role": administrator,
        "partner_role": partner,
        **_payments(payments, things["tier_key"]),
    }


def _payments(at: Place, tier_key: str) -> dict[str, str]:
    """A developer who may use a key because of a group, and a deployment that its boundary keeps away from all keys."""
    use = policies.identity("UseTheTier", ["kms:Decrypt", "kms:Encrypt", "kms:DescribeKey"], tier_key)
    boundary = policies.document({"Sid": "AllButKeys", "Effect": "Allow", "NotAction": "kms:*", "Resource": "*"})
    at.group("developers", at.managed_policy("use-the-tier-key", use))
    developer = at.user("maria", "developers")
    bounded = at.role(
        "Deployment",
        policies.trust(policies.root(at.account), None),
        boundary=at.managed_policy("no-keys", boundary),
    )
    at.attach("role", "Deployment", ADMINISTRATOR_ACCESS)
    return {"developer": developer, "bounded_role": bounded}


def _share(at: Place, secret: str, account: str) -> None:
    """Let another account read a secret; its key has a policy of its own."""
    statement = policies.allow("Platform reads it", policies.root(account), "secretsmanager:GetSecretValue")
    at.client("secretsmanager").put_resource_policy(SecretId=secret, ResourcePolicy=policies.document(statement))
