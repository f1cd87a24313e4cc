"""IAM users, groups, roles and policies of the demo organization that affect access to keys.

`create_principals` creates all of them and returns their ARNs by the field names of `demo.organization.World`.
"""

from __future__ import annotations

from collections.abc import Mapping

from demo import policies
from demo.account_region_builder import AccountRegion

ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"
LAMBDA = {"Service": "lambda.amazonaws.com"}


def create_principals(account_regions: Mapping[str, AccountRegion], resources: Mapping[str, str]) -> dict[str, str]:
    """Create principals in several accounts (by name), and share a secret with another account through its policy."""
    data, payments, platform, lab = (account_regions[name] for name in ("data", "payments", "platform", "lab"))
    application = data.role(
        "ReportsApplication",
        policies.trust(LAMBDA, None),
        policies.identity("ReadItsSecrets", "kms:Decrypt", resources["secrets_key"]),
    )
    administrator = lab.role("Admin", policies.trust(policies.root(lab.account), None))
    lab.attach("role", "Admin", ADMINISTRATOR_ACCESS)
    partner = platform.role(
        "PartnerIntegration",
        policies.trust(policies.root(policies.STRANGER_ACCOUNT), "partner-northwind"),
        policies.identity("UseSharedServices", ["kms:Decrypt", "kms:GenerateDataKey"], resources["shared_key"]),
    )
    _share(data, resources["key_arn_secret"], platform.account)
    return {
        "application_role": application,
        "administrator_role": administrator,
        "partner_role": partner,
        **_payments(payments, resources["tier_key"]),
    }


def _payments(scope: AccountRegion, tier_key: str) -> dict[str, str]:
    """A developer who can use a key through a group, and a deployment role whose boundary denies KMS."""
    use = policies.identity("UseTheTier", ["kms:Decrypt", "kms:Encrypt", "kms:DescribeKey"], tier_key)
    boundary = policies.document({"Sid": "AllButKeys", "Effect": "Allow", "NotAction": "kms:*", "Resource": "*"})
    scope.group("developers", scope.managed_policy("use-the-tier-key", use))
    developer = scope.user("maria", "developers")
    bounded = scope.role(
        "Deployment",
        policies.trust(policies.root(scope.account), None),
        boundary=scope.managed_policy("no-keys", boundary),
    )
    scope.attach("role", "Deployment", ADMINISTRATOR_ACCESS)
    return {"developer": developer, "bounded_role": bounded}


def _share(scope: AccountRegion, secret: str, account: str) -> None:
    """Allow another account to read a secret; the policy of its key does not allow it."""
    statement = policies.allow("Platform reads it", policies.root(account), "secretsmanager:GetSecretValue")
    scope.client("secretsmanager").put_resource_policy(SecretId=secret, ResourcePolicy=policies.document(statement))
