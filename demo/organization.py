"""Northwind, a fictional company on AWS: nine accounts, four regions, and the situations that kmsledger must handle.

`build` creates it through the API of a running `AwsServer`. `count` counts its resources with boto3 alone, so that a crawl
can be compared with code that shares nothing with it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from demo import iam_fixtures, organization_resources, policies, vendor_accounts, vendor_failures
from demo.account_region_builder import AccountRegion
from demo.moto_patches import TRACKING_BEGAN
from demo.server import HOME_REGION, MANAGEMENT_ACCOUNT, MEMBER_ROLE, AwsServer
from demo.trails import create_trails

REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-west-1")
EXTERNAL_ID = "northwind-kms-inventory"
TIER_TAG = ("DataTier", "database")
UNITS = {  # organizational unit → accounts in it
    "Production": ("appsec", "payments", "data", "platform"),
    "Regulated": ("identity",),
    "Sandbox": ("lab", "legacy", "retired"),
}
PARENT_UNIT = {"Regulated": "Production"}
READER_ACTIONS = [
    "kms:Describe*",
    "kms:Get*",
    "kms:List*",
    "rds:Describe*",
    "elasticache:Describe*",
    "s3:GetEncryption*",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetResourcePolicy",
    "iam:GetAccountAuthorizationDetails",
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetEventSelectors",
    "cloudtrail:GetTrailStatus",
]
KEY_METADATA = (
    "DescribeKey",
    "GetKeyLastUsage",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListGrants",
    "ListKeyRotations",
    "ListResourceTags",
)
LAST_OPERATIONS = {  # the latest operation of keys that were used just now; most other keys were never used
    "vendor_key": "GenerateDataKey",
    "tier_key": "Decrypt",
    "vault_key": "Encrypt",
    "secrets_key": "Decrypt",
    "shared_key": "GenerateDataKey",
    "granted_key_of_platform": "Decrypt",
    "hostile_key": "Decrypt",
    "finance_key": "Decrypt",
}
BUILDERS = 4  # accounts that are built concurrently; moto uses one processor


@dataclass(frozen=True, kw_only=True)
class NamedResources:
    """ARNs of the resources that the tests and the demo refer to, by situation."""

    # Checkmarx One: account appsec in eu-west-1
    vendor_key: str
    vendor_database: str
    vendor_cache: str
    half_shared_key: str  # the vendor may use it, but may not create grants
    disabled_key: str
    stranded_database: str  # encrypted with disabled_key
    doomed_key: str  # pending deletion
    doomed_secret: str  # encrypted with doomed_key
    moved_alias: str
    moved_from: str  # the alias's key, used by ElastiCache
    moved_to: str  # the key that `demo.second_run_changes` moves the alias to
    unshared_key: str  # `demo.second_run_changes` removes the vendor from its policy
    wide_key: str  # the vendor may call every KMS operation on it
    free_grants_key: str  # the vendor may create any grant, not only for AWS resources
    narrow_key: str  # the vendor may use it through S3 only
    worldwide_key: str  # multi-Region, and in a different region from the tenant
    trial_key: str  # pending deletion; `demo.second_run_changes` deletes it
    # The database tier: account payments
    tier_key: str
    tier_database: str
    tier_cluster: str
    untiered_database: str  # encrypted with aws/rds, in a region without a key of the tier
    retiring_key: str  # `demo.second_run_changes` schedules its deletion
    rekeyed_secret: str  # `demo.second_run_changes` re-encrypts it with aws/secretsmanager
    # Cerby: account identity in us-east-2 and us-west-2
    vault_key: str
    vault_replica: str
    vault_role: str
    weak_vault_key: str
    weak_vault_role: str  # no external id, all KMS actions, all keys
    lonely_vault_key: str  # without a replica
    lonely_vault_role: str  # without kms:GetPublicKey
    orphan_vault_key: str  # its role does not exist
    orphan_vault_replica: str
    disabled_vault_key: str  # `demo.second_run_changes` disables it
    disabled_vault_replica: str
    # Plerion: account data in us-east-1
    granted_key: str
    denied_key: str
    untagged_key: str
    undelegated_key: str  # tagged Granted, but its policy does not delegate to IAM
    appliance_key: str  # does not delegate either, but has the two statements of the vendor
    locked_key: str  # the crawl role may not read it (`apply_permanent_faults`)
    across_key: str  # allows the appliance of account platform
    # Plerion, selected keys: account platform in us-west-2
    selected_key: str
    lower_selected_key: str  # tagged `granted`
    misspelled_key: str  # the tag key in another letter case
    undelegated_selected_key: str
    bypassing_key: str  # tagged Denied, while its policy allows the appliance
    # Secrets, by the form of their key reference: account data in us-east-1
    secrets_key: str
    default_secret: str
    managed_alias_secret: str
    key_id_secret: str
    key_arn_secret: str  # its resource policy allows account platform to read it
    alias_name_secret: str
    alias_arn_secret: str
    shared_key_secret: str  # a key of account platform
    hidden_key_secret: str  # a key of account legacy, which cannot be crawled
    outside_key_secret: str  # a key of an account outside the organization
    dangling_key_secret: str
    dangling_alias_secret: str
    dangling_arn_secret: str
    deleted_secret: str  # scheduled for deletion
    # Account platform in us-east-1
    shared_key: str
    opened_key: str  # `demo.second_run_changes` opens its policy to an external account
    granted_key_of_platform: str  # has six grants
    # Accounts lab (eu-west-1), management and legacy
    public_key: str
    forgotten_key: str  # older than the usage tracking of AWS, and not used since tracking began
    orphaned_key: str  # its policy contains deleted principals
    stranger_key: str
    hostile_key: str
    hostile_secret: str
    finance_key: str
    hidden_key: str  # in account legacy
    # IAM: principals that can use keys through identity policies
    application_role: str  # account data: decrypts with secrets_key through an inline policy
    administrator_role: str  # account lab: AdministratorAccess
    developer: str  # account payments: an IAM user that can use tier_key through a group
    bounded_role: str  # account payments: AdministratorAccess with a boundary that excludes KMS
    partner_role: str  # account platform: an external account may assume it; it can use shared_key
    # CloudTrail: in us-east-1
    organization_trail: str  # account management: all events of all accounts
    trail_without_kms: str  # account payments: excludes KMS events
    silent_trail: str  # account platform: GetEventSelectors is denied (`apply_permanent_faults`)


@dataclass(frozen=True, kw_only=True)
class World(NamedResources):
    """The organization: account and unit ids by name, the crawl role, and the named resources."""

    organization: str
    management: str
    accounts: Mapping[str, str]  # name → id, management included
    units: Mapping[str, str]  # name → id
    regions: tuple[str, ...]  # regions in use
    role_name: str
    external_id: str
    tier_tag: tuple[str, str]  # the tag that marks the database tier

    @property
    def readable(self) -> dict[str, str]:
        """Name → id of the accounts that can be crawled: active, and with the crawl role."""
        return {name: account for name, account in self.accounts.items() if name not in {"legacy", "retired"}}

    def role_arn(self, account_id: str) -> str:
        """The ARN of the crawl role in an account."""
        return f"arn:aws:iam::{account_id}:role/{self.role_name}"


def build(server: AwsServer, *, tier_tag: tuple[str, str] = TIER_TAG) -> World:
    """Create the organization on an empty server. Raises botocore's ClientError if a call fails."""
    organizations = server.session().client("organizations")
    organization = organizations.create_organization(FeatureSet="ALL")["Organization"]["Id"]
    server.set_management_account("northwind-management", "aws+management@northwind.example")
    accounts = {"management": MANAGEMENT_ACCOUNT}
    units = _units(organizations)
    for unit, names in UNITS.items():
        for name in names:
            accounts[name] = _account(organizations, name, unit, units)
    organizations.close_account(AccountId=accounts["retired"])

    active = {name: account for name, account in accounts.items() if name != "retired"}
    account_regions = {name: AccountRegion(server, account, HOME_REGION) for name, account in active.items()}
    for name, account_region in account_regions.items():
        if name != "legacy":
            _create_crawl_role(account_region)
    customers = [accounts["data"], accounts["payments"]]
    resources = organization_resources.platform(account_regions["platform"], organization, customers)
    resources |= organization_resources.legacy(account_regions["legacy"])
    shared_key, hidden_key = resources["shared_key"], resources["hidden_key"]
    tasks: list[Callable[[], dict[str, str]]] = [
        lambda: organization_resources.payments(account_regions["payments"], tier_tag),
        lambda: vendor_accounts.appsec(account_regions["appsec"]) | vendor_failures.scanner(account_regions["appsec"]),
        lambda: (
            vendor_accounts.identity(account_regions["identity"]) | vendor_failures.vaults(account_regions["identity"])
        ),
        lambda: (
            vendor_accounts.data(account_regions["data"], accounts["platform"])
            | organization_resources.secrets(account_regions["data"], shared_key, hidden_key)
        ),
        lambda: organization_resources.laboratory(account_regions["lab"]),
        lambda: organization_resources.management(account_regions["management"]),
    ]
    with ThreadPoolExecutor(BUILDERS) as pool:
        for future in [pool.submit(task) for task in tasks]:
            resources |= future.result()
    resources |= vendor_failures.appliance(account_regions["platform"], account_regions["data"])
    resources |= iam_fixtures.create_principals(account_regions, resources)
    resources |= create_trails(account_regions)
    _set_last_uses(server, resources)
    return World(
        organization=organization,
        management=MANAGEMENT_ACCOUNT,
        accounts=accounts,
        units=units,
        regions=REGIONS,
        role_name=vendor_accounts.READER,
        external_id=EXTERNAL_ID,
        tier_tag=tier_tag,
        **resources,
    )


def apply_permanent_faults(server: AwsServer, world: World) -> None:
    """Deny what AWS would deny and moto does not: AssumeRole in two accounts, and the calls on one locked key."""
    caller = f"arn:aws:sts::{world.management}:assumed-role/kmsledger/crawl"
    for name in ("legacy", "retired"):
        role = world.role_arn(world.accounts[name])
        message = f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
        server.fault("sts", "AssumeRole", match=role, code="AccessDenied", message=message, status=403)
    account, key = world.accounts["data"], world.locked_key
    member = f"arn:aws:sts::{account}:assumed-role/{world.role_name}/crawl"
    # The policy of the appliance key lists single actions and predates GetKeyLastUsage.
    denials = [*((key, operation) for operation in KEY_METADATA), (world.appliance_key, "GetKeyLastUsage")]
    for denied, operation in denials:
        action = f"kms:{operation}"
        message = (
            f"User: {member} is not authorized to perform: {action} on resource: {denied} "
            f"because no resource-based policy allows the {action} action"
        )
        server.fault("kms", operation, match=denied.rpartition("/")[2], message=message)
    platform = f"arn:aws:sts::{world.accounts['platform']}:assumed-role/{world.role_name}/crawl"
    message = (
        f"User: {platform} is not authorized to perform: cloudtrail:GetEventSelectors on resource: {world.silent_trail} "
        "because no identity-based policy allows the cloudtrail:GetEventSelectors action"
    )
    server.fault("cloudtrail", "GetEventSelectors", match=world.silent_trail, message=message)
    server.fault(
        "elasticache",
        "DescribeServerlessCaches",
        region=HOME_REGION,
        account=world.accounts["lab"],
        code="InvalidAction",
        message="Could not find operation DescribeServerlessCaches.",
    )


def count(server: AwsServer, world: World) -> dict[tuple[str, str], int]:
    """Count the resources of every readable account in the regions in use: (account id, kind) → number.

    Kinds: keys, aliases (with a key), predefined_aliases (without a key), grants, key_tags, secrets (including those
    scheduled for deletion), secret_policies, db_instances, replication_groups, buckets, trails, iam_users, iam_roles,
    iam_groups.
    A denied call on a single key counts as zero.
    """
    scopes = [(account, region) for account in world.readable.values() for region in world.regions]
    totals = {(account, kind): 0 for account in world.readable.values() for kind in KINDS}
    with ThreadPoolExecutor(BUILDERS) as pool:
        for (account, _), counts in zip(
            scopes, pool.map(lambda scope: _count_scope(server, *scope), scopes), strict=True
        ):
            for kind, number in counts.items():
                totals[account, kind] += number
    for account in world.readable.values():
        session = server.session(account)
        totals[account, "buckets"] = len(session.client("s3").list_buckets()["Buckets"])
        for kind in ("users", "roles", "groups"):
            entries = _pages(session.client("iam"), f"list_{kind}", kind.capitalize())
            totals[account, f"iam_{kind}"] = sum(1 for _ in entries)
    return totals


KINDS = (
    *("keys", "aliases", "predefined_aliases", "grants", "key_tags", "secrets"),
    *("secret_policies", "db_instances", "replication_groups", "buckets", "trails"),
    *("iam_users", "iam_roles", "iam_groups"),
)


def _count_scope(server: AwsServer, account: str, region: str) -> Counter[str]:
    session = server.session(account, region)
    kms = session.client("kms")
    counts: Counter[str] = Counter()
    for key in _pages(kms, "list_keys", "Keys"):
        counts["keys"] += 1
        counts["grants"] += _allowed(kms, "list_grants", "Grants", KeyId=key["KeyArn"])
        counts["key_tags"] += _allowed(kms, "list_resource_tags", "Tags", KeyId=key["KeyArn"])
    for alias in _pages(kms, "list_aliases", "Aliases"):
        counts["aliases" if "TargetKeyId" in alias else "predefined_aliases"] += 1
    lists = {
        "secrets": ("secretsmanager", "list_secrets", "SecretList", {"IncludePlannedDeletion": True}),
        "db_instances": ("rds", "describe_db_instances", "DBInstances", {}),
        "replication_groups": ("elasticache", "describe_replication_groups", "ReplicationGroups", {}),
    }
    secrets = session.client("secretsmanager")
    for secret in _pages(secrets, "list_secrets", "SecretList"):
        counts["secret_policies"] += "ResourcePolicy" in secrets.get_resource_policy(SecretId=secret["ARN"])
    counts["trails"] += len(session.client("cloudtrail").describe_trails(includeShadowTrails=False)["trailList"])
    for kind, (service, operation, items, options) in lists.items():
        counts[kind] += sum(1 for _ in _pages(session.client(service), operation, items, **options))
    return counts


def _pages(client: Any, operation: str, items: str, **options: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**options):
        yield from page[items]


def _allowed(client: Any, operation: str, items: str, **options: Any) -> int:
    try:
        return sum(1 for _ in _pages(client, operation, items, **options))
    except ClientError as denial:
        if denial.response["Error"]["Code"] != "AccessDeniedException":
            raise
        return 0


def _set_last_uses(server: AwsServer, resources: Mapping[str, str]) -> None:
    """Set the last use of keys: some just now, one several months ago, one before tracking began, the others never."""
    for name, operation in LAST_OPERATIONS.items():
        server.set_key_use(resources[name], operation)
    months_ago = TRACKING_BEGAN + dt.timedelta(days=30)
    server.set_key_use(
        resources["retiring_key"], "Decrypt", months_ago, created=TRACKING_BEGAN - dt.timedelta(days=700)
    )
    server.set_key_use(resources["forgotten_key"], None, created=TRACKING_BEGAN - dt.timedelta(days=1800))


def _units(organizations: Any) -> dict[str, str]:
    root = organizations.list_roots()["Roots"][0]["Id"]
    units = {"Root": root}
    for name in sorted(UNITS, key=lambda unit: unit in PARENT_UNIT):
        parent = units[PARENT_UNIT.get(name, "Root")]
        unit = organizations.create_organizational_unit(ParentId=parent, Name=name)["OrganizationalUnit"]
        units[name] = unit["Id"]
    return units


def _account(organizations: Any, name: str, unit: str, units: Mapping[str, str]) -> str:
    labels = {"Owner": f"team-{name}", "Environment": unit.lower(), "CostCenter": f"CC-{sum(map(ord, name)):04}"}
    status = organizations.create_account(
        AccountName=f"northwind-{name}",
        Email=f"aws+{name}@northwind.example",
        RoleName=MEMBER_ROLE,
        Tags=[{"Key": key, "Value": value} for key, value in labels.items()],
    )["CreateAccountStatus"]
    account = str(status["AccountId"])
    organizations.move_account(AccountId=account, SourceParentId=units["Root"], DestinationParentId=units[unit])
    return account


def _create_crawl_role(account_region: AccountRegion) -> None:
    """Create the crawl role: read-only, trusted by the management account with the external id."""
    trust = policies.trust(policies.root(MANAGEMENT_ACCOUNT), EXTERNAL_ID)
    account_region.role(vendor_accounts.READER, trust, policies.identity("ReadKeysAndTheirUse", READER_ACTIONS, "*"))
