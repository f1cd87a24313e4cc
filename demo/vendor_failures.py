"""Failures between a customer and a vendor that uses the customer's keys: every case in the vendors' documentation.

Each function creates the cases of one account and returns their ARNs by the field names of `demo.organization.World`.
`demo.second_run_changes` triggers some of them between two crawls. `demo.vendor_accounts` has the cases without failures.
"""

from __future__ import annotations

from typing import Any

from demo import policies
from demo.account_region_builder import AccountRegion
from demo.policies import allow, delegation, document
from demo.vendor_accounts import CERBY_ACTIONS, CERBY_WORKSPACE, READER

SCANNER_ALIASES = (
    *("checkmarx-one", "checkmarx-staging", "checkmarx-reports", "checkmarx-wide", "checkmarx-grants"),
    *("checkmarx-narrow", "checkmarx-worldwide", "checkmarx-trial", "legacy-scans", "scan-archive", "scanner-cache"),
)


def scanner(scope: AccountRegion) -> dict[str, str]:
    """Checkmarx One: keys that are about to be unshared or deleted, shared too widely, or of the wrong type."""
    europe, america, account = scope.in_region("eu-west-1"), scope.in_region("us-east-1"), scope.account
    vendor = policies.CHECKMARX_ACCOUNT
    base = [delegation(account), policies.administration(account), policies.vendor_use(account, vendor)]
    grants = policies.vendor_grants(account, vendor)
    right = document(*base, grants)
    tags = {"Owner": "application-security", "Vendor": "checkmarx-one"}

    unshared = europe.key("checkmarx-reports", Description="Reports of Checkmarx One", policy=right, tags=tags)
    europe.bucket("northwind-appsec-checkmarx-reports", "aws:kms", unshared)
    everything = allow("The vendor may do everything", policies.root(vendor), "kms:*")
    wide = europe.key("checkmarx-wide", policy=document(*base, grants, everything), tags=tags)
    bare = {name: value for name, value in grants.items() if name != "Condition"}
    free = europe.key("checkmarx-grants", policy=document(*base, bare), tags=tags)
    through = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    narrow = europe.key(
        "checkmarx-narrow", policy=document(*base[:2], {**base[2], "Condition": through}, grants), tags=tags
    )
    worldwide = america.key("checkmarx-worldwide", policy=right, tags=tags, MultiRegion=True)
    trial = europe.key("checkmarx-trial", Description="Trial of Checkmarx One, ended", policy=right, tags=tags)
    europe.client("kms").schedule_key_deletion(KeyId=trial, PendingWindowInDays=7)
    return {
        "unshared_key": unshared,
        "wide_key": wide,
        "free_grants_key": free,
        "narrow_key": narrow,
        "worldwide_key": worldwide,
        "trial_key": trial,
    }


def vaults(scope: AccountRegion) -> dict[str, str]:
    """Cerby: a vault without a replica, whose role lacks actions; one whose role was deleted; one that gets disabled."""
    ohio = scope.in_region("us-east-2")
    vault: dict[str, Any] = {
        "KeySpec": "RSA_4096",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "MultiRegion": True,
        "tags": {"Vendor": "cerby"},
    }
    trust = policies.trust(policies.CERBY_ROLE, CERBY_WORKSPACE)

    lonely = ohio.key("cerby-vault-lonely", Description="Cerby vault, replica forgotten", **vault)
    lacking = policies.identity("AllowCerbyToUseKMSKey", [*CERBY_ACTIONS[:2], "kms:DescribeKey"], [lonely])
    lonely_role = scope.role("CerbyVaultAccessLonely", trust, lacking)

    orphan = ohio.key("cerby-vault-orphan", Description="Cerby vault, role deleted", **vault)
    orphan_replica = _replica(ohio, orphan)

    doomed = ohio.key("cerby-vault-emea", Description="Cerby vault of EMEA", **vault)
    doomed_replica = _replica(ohio, doomed)
    scope.role(
        "CerbyVaultAccessEmea",
        trust,
        policies.identity("AllowCerbyToUseKMSKey", CERBY_ACTIONS, [doomed, doomed_replica]),
    )
    return {
        "lonely_vault_key": lonely,
        "lonely_vault_role": lonely_role,
        "orphan_vault_key": orphan,
        "orphan_vault_replica": orphan_replica,
        "disabled_vault_key": doomed,
        "disabled_vault_replica": doomed_replica,
    }


def appliance(scope: AccountRegion, data: AccountRegion) -> dict[str, str]:
    """Plerion in the mode SELECTED_KEYS: in the account of the integration (`scope`), and for keys of account `data`."""
    oregon, account = scope.in_region("us-west-2"), scope.account
    reader = allow("Inventory reads metadata", f"arn:aws:iam::{account}:role/{READER}", policies.READ)
    scope.role(
        "PlerionApplianceRole",
        policies.trust(policies.root(account), "plerion-northwind-platform"),
        policies.identity(
            "PlerionKmsCmkAccess",
            [*policies.USE, "kms:CreateGrant"],
            "arn:aws:kms:*:*:key/*",
            Condition={"StringEqualsIgnoreCase": {"aws:ResourceTag/PlerionAccess": "Granted"}},
        ),
        {"PlerionApplianceRole": "True"},
    )
    selected = oregon.key("scan-selected", tags={"PlerionAccess": "Granted"})
    lower = oregon.key("scan-selected-lower", tags={"PlerionAccess": "granted"})
    misspelled = oregon.key("scan-misspelled", tags={"plerionaccess": "Granted"})
    undelegated = oregon.key("scan-undelegated", policy=document(reader), tags={"PlerionAccess": "Granted"})
    own = policies.appliance("${aws:ResourceAccount}")
    bypassing = oregon.key(
        "scan-by-statement", policy=document(delegation(account), *own), tags={"PlerionAccess": "Denied"}
    )
    remote = data.in_region("us-east-1")
    accessible = remote.key(
        "appliance-across",
        policy=document(delegation(data.account), *policies.appliance(account)),
        tags={"PlerionAccess": "Granted"},
    )
    return {
        "selected_key": selected,
        "lower_selected_key": lower,
        "misspelled_key": misspelled,
        "undelegated_selected_key": undelegated,
        "bypassing_key": bypassing,
        "across_key": accessible,
    }


def _replica(ohio: AccountRegion, key: str) -> str:
    key_id = key.rpartition("/")[2]
    response = ohio.client("kms").replicate_key(KeyId=key_id, ReplicaRegion="us-west-2")
    return str(response["ReplicaKeyMetadata"]["Arn"])


def settings(accounts: dict[str, str]) -> dict[str, object]:
    """The settings group `vendors` for these cases."""
    identity, data, platform = [accounts["identity"]], [accounts["data"]], [accounts["platform"]]

    def vault(alias: str, role: str) -> dict[str, object]:
        return {
            "profile": "cerby",
            "accounts": identity,
            "keys": [f"alias/{alias}"],
            "parameters": {"role_name": role},
        }

    return {
        "profiles": {
            "checkmarx-one": {
                "accounts": [accounts["appsec"]],
                "keys": [f"alias/{name}" for name in SCANNER_ALIASES],
                "parameters": {"tenant_region": "eu-west-1"},
            },
            "cerby": vault("cerby-vault", "CerbyVaultAccess"),
            "cerby-old": vault("cerby-vault-old", "CerbyVaultAccessOld"),
            "cerby-lonely": vault("cerby-vault-lonely", "CerbyVaultAccessLonely"),
            "cerby-orphan": vault("cerby-vault-orphan", "CerbyVaultAccessOrphan"),
            "cerby-emea": vault("cerby-vault-emea", "CerbyVaultAccessEmea"),
            "plerion": {"accounts": data, "parameters": {"mode": "ALL_KEYS"}},
            "plerion-platform": {"profile": "plerion", "accounts": platform, "parameters": {"mode": "SELECTED_KEYS"}},
            "plerion-across": {
                "profile": "plerion",
                "accounts": data,
                "keys": ["alias/appliance-across", "alias/warehouse", "alias/reporting"],
                "parameters": {"mode": "SELECTED_KEYS", "integration_account": accounts["platform"]},
            },
        }
    }
