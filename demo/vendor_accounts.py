"""Three accounts of the demo organization whose keys a vendor depends on: scanner, vault, appliance.

Each function creates the resources of one account and returns their ARNs by the field names of `demo.organization.World`.
"""

from __future__ import annotations

from demo import policies
from demo.account_region_builder import AccountRegion
from demo.policies import allow, delegation, document

CERBY_WORKSPACE = "9f31c2ad-7b0e-4f6c-a1de-2f8e5c0b7d44"
READER = "KmsInventoryReadOnly"  # the crawl role, in every account
CERBY_ACTIONS = ["kms:Encrypt", "kms:Decrypt", "kms:GetPublicKey", "kms:DescribeKey"]


def appsec(scope: AccountRegion) -> dict[str, str]:
    """Checkmarx One with keys of the account: one correct, one half shared, one disabled, one pending deletion."""
    europe, america, account = scope.in_region("eu-west-1"), scope.in_region("us-east-1"), scope.account
    vendor = policies.CHECKMARX_ACCOUNT
    base = [delegation(account), policies.administration(account), policies.vendor_use(account, vendor)]
    tags = {"Owner": "application-security", "Vendor": "checkmarx-one"}

    shared = europe.key(
        "checkmarx-one",
        Description="Checkmarx One, single tenant",
        policy=document(*base, policies.vendor_grants(account, vendor)),
        tags=tags,
        rotation_days=365,
    )
    europe.bucket("northwind-appsec-scan-results", "aws:kms", shared)
    europe.bucket("northwind-appsec-scan-sources", "aws:kms", europe.alias_arn("checkmarx-one"))
    database = europe.database(
        "checkmarx-one", shared, ManageMasterUserPassword=True, MasterUserSecretKmsKeyId=shared, Tags=_labels(tags)
    )
    europe.client("rds").create_db_snapshot(
        DBInstanceIdentifier="checkmarx-one", DBSnapshotIdentifier="checkmarx-one-before-upgrade"
    )
    cache = europe.cache("checkmarx-one", shared)

    half = europe.key("checkmarx-staging", Description="Checkmarx One, staging", policy=document(*base), tags=tags)
    europe.cache("checkmarx-staging", half)

    disabled = europe.key("legacy-scans", Description="Scans until 2024", tags={"Owner": "application-security"})
    stranded = europe.database("legacy-scans", disabled)
    europe.secret("appsec/legacy-scans/database", disabled)
    europe.client("kms").disable_key(KeyId=disabled)
    scope.server.set_database_status(
        account, europe.region, "legacy-scans", "inaccessible-encryption-credentials-recoverable"
    )

    doomed = europe.key("scan-archive", Description="Archive of scans")
    europe.bucket("northwind-appsec-scan-archive", "aws:kms", doomed)
    doomed_secret = europe.secret("appsec/scan-archive/reader", doomed)
    europe.client("kms").schedule_key_deletion(KeyId=doomed, PendingWindowInDays=7)

    caching = document(*base, policies.vendor_grants(account, vendor))
    before = europe.key(Description="Cache of the scanners, 2025", policy=caching)
    after = europe.key(Description="Cache of the scanners, 2026", policy=caching)
    europe.client("kms").create_alias(AliasName="alias/scanner-cache", TargetKeyId=before)
    europe.cache("scanner-cache", before)

    pipelines = america.key("pipelines", tags={"Owner": "application-security"}, rotation_days=90)
    america.key("code-signing", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY", Description="Signs releases")
    america.bucket("northwind-appsec-reports")
    for name in ("registry", "repository-token", "webhook"):
        america.secret(f"appsec/{name}", pipelines)
    return {
        "vendor_key": shared,
        "vendor_database": database,
        "vendor_cache": cache,
        "half_shared_key": half,
        "disabled_key": disabled,
        "stranded_database": stranded,
        "doomed_key": doomed,
        "doomed_secret": doomed_secret,
        "moved_alias": europe.alias_arn("scanner-cache"),
        "moved_from": before,
        "moved_to": after,
    }


def identity(scope: AccountRegion) -> dict[str, str]:
    """A Cerby vault as the vendor documents it, and an older one with excess permissions for the whole vendor account."""
    ohio, oregon, account = scope.in_region("us-east-2"), scope.in_region("us-west-2"), scope.account
    vault = ohio.key(
        "cerby-vault",
        Description="Cerby vault",
        KeySpec="RSA_4096",
        KeyUsage="ENCRYPT_DECRYPT",
        MultiRegion=True,
        tags={"Owner": "identity", "Vendor": "cerby"},
    )
    key_id = vault.rpartition("/")[2]
    replica = ohio.client("kms").replicate_key(KeyId=key_id, ReplicaRegion=oregon.region)["ReplicaKeyMetadata"]["Arn"]
    oregon.client("kms").create_alias(AliasName="alias/cerby-vault", TargetKeyId=key_id)
    oregon.client("kms").tag_resource(KeyId=key_id, Tags=[{"TagKey": "Owner", "TagValue": "identity"}])
    role = scope.role(
        "CerbyVaultAccess",
        policies.trust(policies.CERBY_ROLE, CERBY_WORKSPACE),
        policies.identity("AllowCerbyToUseKMSKey", CERBY_ACTIONS, [vault, replica]),
    )

    weak = ohio.key("cerby-vault-old", KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT", tags={"Vendor": "cerby"})
    weak_role = scope.role(
        "CerbyVaultAccessOld",
        policies.trust(policies.root(policies.CERBY_ACCOUNT), None),
        policies.identity("AllowCerby", "kms:*", "*"),
    )

    ohio.key("session-tokens", KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC", tags={"Owner": "identity"})
    ohio.key("password-pepper", KeySpec="HMAC_512", KeyUsage="GENERATE_VERIFY_MAC")
    ohio.key("webauthn", KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    ohio.key("ledger-wallet", KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
    ohio.key("saml-signing", KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY", tags={"Owner": "identity"})
    directory = ohio.key("directory", tags={"Owner": "identity"}, rotation_days=365)
    logs = ohio.key("audit-trail", policy=document(delegation(account), _cloudtrail(account)), rotation_days=365)
    ohio.trail("northwind-identity", ohio.bucket("northwind-identity-trail", "aws:kms", logs), key=logs)
    ohio.bucket("northwind-identity-exports", "aws:kms")
    ohio.database("directory", directory)
    for name in ("directory", "oidc-client", "saml-certificate", "scim-token", "smtp"):
        ohio.secret(f"identity/{name}", directory)
    return {
        "vault_key": vault,
        "vault_replica": replica,
        "vault_role": role,
        "weak_vault_key": weak,
        "weak_vault_role": weak_role,
    }


def data(scope: AccountRegion, platform: str) -> dict[str, str]:
    """Keys that Plerion can or cannot use, by tag and by policy; `platform` is the integration account."""
    virginia, account = scope.in_region("us-east-1"), scope.account
    reader = allow("Inventory reads metadata", f"arn:aws:iam::{account}:role/{READER}", policies.READ)
    analysts = allow("Analysts use the key", f"arn:aws:iam::{account}:role/Analyst", policies.USE)
    own = policies.appliance("${aws:ResourceAccount}")

    granted = virginia.key("warehouse", tags={"PlerionAccess": "Granted", "Owner": "data"}, rotation_days=365)
    virginia.key("warehouse-staging", tags={"PlerionAccess": "granted"})
    denied = virginia.key("clinical-trials", tags={"PlerionAccess": "Denied", "Owner": "data"})
    virginia.key("clinical-archive", tags={"PlerionAccess": "DENIED"})
    virginia.key("wrong-tag-name", tags={"plerionaccess": "Granted"})
    untagged = virginia.key("reporting", tags={"Owner": "data"})
    undelegated = virginia.key(
        "vault-of-data", policy=document(reader, analysts), tags={"PlerionAccess": "Granted", "Owner": "data"}
    )
    appliance = virginia.key(
        "appliance-own", policy=document(reader, analysts, *own), tags={"PlerionAccess": "Granted", "Owner": "data"}
    )
    virginia.key("appliance-remote", policy=document(reader, analysts, *policies.appliance(platform)))
    locked = virginia.key(
        "researchers-only", policy=document(analysts), Description="Nobody outside research sees this"
    )
    virginia.role(
        "PlerionApplianceRole",
        policies.trust(policies.root(platform), "plerion-northwind"),
        policies.identity(
            "PlerionKmsCmkAccess",
            [*policies.USE, "kms:CreateGrant"],
            "arn:aws:kms:*:*:key/*",
            Condition={"StringNotEqualsIgnoreCase": {"aws:ResourceTag/PlerionAccess": "Denied"}},
        ),
        {"PlerionApplianceRole": "True"},
    )
    virginia.bucket("northwind-data-lake", "aws:kms", granted)
    virginia.bucket("northwind-data-clinical", "aws:kms", denied.rpartition("/")[2])
    virginia.bucket("northwind-data-research", "aws:kms:dsse", locked)
    virginia.trail("northwind-data", virginia.bucket("northwind-data-trail"), without_kms=True)
    return {
        "granted_key": granted,
        "denied_key": denied,
        "untagged_key": untagged,
        "undelegated_key": undelegated,
        "appliance_key": appliance,
        "locked_key": locked,
    }


def _labels(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def _cloudtrail(account: str) -> policies.Statement:
    principal = {"Service": "cloudtrail.amazonaws.com"}
    source = {"StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": f"arn:aws:cloudtrail:*:{account}:trail/*"}}
    return allow("CloudTrail encrypts logs", principal, ["kms:GenerateDataKey*", "kms:DescribeKey"], Condition=source)
