"""Northwind, an invented company on AWS: nine accounts, four regions, and what the ledger should explain.

`build` makes it through the API of a running `AwsServer`; `count` counts what is there, through boto3 alone, so that a
crawl can be compared with something that shares no code with it.
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
from demo.account_region_builder import Place
from demo.moto_patches import TRACKING_BEGAN
from demo.server import HOME_REGION, MANAGEMENT_ACCOUNT, MEMBER_ROLE, AwsServer
from demo.trails import trails

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
USED = {  # what keys were used for last, just now; most of the others never were
    "vendor_key": "GenerateDataKey",
    "tier_key": "Decrypt",
    "vault_key": "Encrypt",
    "secrets_key": "Decrypt",
    "shared_key": "GenerateDataKey",
    "granted_key_of_platform": "Decrypt",
    "hostile_key": "Decrypt",
    "finance_key": "Decrypt",
}
BUILDERS = 4  # accounts that are filled at once; moto answers on one processor


@dataclass(frozen=True, kw_only=True)
class Things:
    """ARNs of the things that tests and the demo speak of, by situation."""

    # Checkmarx One: account appsec in eu-west-1
    vendor_key: str
    vendor_database: str
    vendor_cache: str
    half_shared_key: str  # the vendor may use it, but may not make grants
    disabled_key: str
    stranded_database: str  # encrypted with disabled_key
    doomed_key: str  # pending deletion
    doomed_secret: str  # encrypted with doomed_key
    moved_alias: str
    moved_from: str  # the alias's key, used by ElastiCache
    moved_to: str  # the key that `demo.second_run_changes` moves the alias to
    unshared_key: str  # `demo.second_run_changes` takes the vendor out of its policy
    wide_key: str  # the vendor may do everything with it
    free_grants_key: str  # the vendor may make any grant, not only for AWS resources
    narrow_key: str  # the vendor may use it through S3 only
    worldwide_key: str  # multi-Region, and in another region than the tenant
    trial_key: str  # pending deletion; `demo.second_run_changes` lets it go
    # The database tier: account payments
    tier_key: str
    tier_database: str
    tier_cluster: str
    untiered_database: str  # under aws/rds, in a region without a key of the tier
    retiring_key: str  # `demo.second_run_changes` schedules its deletion
    rekeyed_secret: str  # `demo.second_run_changes` puts it under aws/secretsmanager
    # Cerby: account identity in us-east-2 and us-west-2
    vault_key: str
    vault_replica: str
    vault_role: str
    weak_vault_key: str
    weak_vault_role: str  # no external id, every action, every key
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
    appliance_key: str  # does not delegate either, but has the vendor's two statements
    locked_key: str  # the ledger's own role may not read it (`apply_permanent_faults`)
    across_key: str  # lets the appliance of account platform in
    # Plerion, selected keys: account platform in us-west-2
    selected_key: str
    lower_selected_key: str  # tagged `granted`
    misspelled_key: str  # the tag's name in another letter case
    undelegated_selected_key: str
    bypassing_key: str  # tagged Denied, while its policy lets the appliance in
    # Secrets by how they name their key: account data in us-east-1
    secrets_key: str
    default_secret: str
    managed_alias_secret: str
    key_id_secret: str
    key_arn_secret: str  # its resource policy lets account platform read it
    alias_name_secret: str
    alias_arn_secret: str
    shared_key_secret: str  # a key of account platform
    hidden_key_secret: str  # a key of account legacy, which cannot be read
    outside_key_secret: str  # a key of an account outside the organization
    dangling_key_secret: str
    dangling_alias_secret: str
    dangling_arn_secret: str
    deleted_secret: str  # scheduled for deletion
    # Account platform in us-east-1
    shared_key: str
    opened_key: str  # `demo.second_run_changes` opens its policy to a stranger
    granted_key_of_platform: str  # carries six grants
    # Accounts lab (eu-west-1), management and legacy
    public_key: str
    forgotten_key: str  # older than AWS's tracking of use, and not used since that began
    orphaned_key: str  # its policy names deleted principals
    stranger_key: str
    hostile_key: str
    hostile_secret: str
    finance_key: str
    hidden_key: str  # in account legacy
    # IAM: who may use keys because of identity policies
    application_role: str  # of account data: decrypts with secrets_key, through an inline policy
    administrator_role: str  # of account lab: AdministratorAccess
    developer: str  # user of account payments: uses tier_key, through a group
    bounded_role: str  # of account payments: AdministratorAccess within a boundary that leaves out KMS
    partner_role: str  # of account platform: a stranger's account may assume it, and it uses shared_key
    # CloudTrail: in us-east-1
    organization_trail: str  # of account management: all events of all accounts
    trail_without_kms: str  # of account payments: leaves the events of KMS out
    silent_trail: str  # of account platform: nobody may ask which events it selects (`apply_permanent_faults`)


@dataclass(frozen=True, kw_only=True)
class World(Things):
    """The organization: ids of accounts and units by name, the role that the ledger assumes, and named things."""

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
        """Name → id of the accounts that the ledger's role can read: neither suspended nor without the role."""
        return {name: account for name, account in self.accounts.items() if name not in {"legacy", "retired"}}

    def role_arn(self, account_id: str) -> str:
        """The role that the ledger assumes in an account."""
        return f"arn:aws:iam::{account_id}:role/{self.role_name}"


def build(server: AwsServer, *, tier_tag: tuple[str, str] = TIER_TAG) -> World:
    """Make the organization on an empty server. Raises botocore's ClientError if a call fails."""
    organizations = server.session().client("organizations")
    organization = organizations.create_organization(FeatureSet="ALL")["Organization"]["Id"]
    server.set_management_account("northwind-management", "aws+management@northwind.example")
    accounts = {"management": MANAGEMENT_ACCOUNT}
    units = _units(organizations)
    for unit, names in UNITS.items():
        for name in names:
            accounts[name] = _account(organizations, name, unit, units)
    organizations.close_account(AccountId=accounts["retired"])

    places = {name: Place(server, account, HOME_REGION) for name, account in accounts.items() if name != "retired"}
    for name, place in places.items():
        if name != "legacy":
            _reader(place)
    things = organization_resources.platform(places["platform"], organization, [accounts["data"], accounts["payments"]])
    things |= organization_resources.legacy(places["legacy"])
    shared_key, hidden_key = things["shared_key"], things["hidden_key"]
    tasks: list[Callable[[], dict[str, str]]] = [
        lambda: organization_resources.payments(places["payments"], tier_tag),
        lambda: vendor_accounts.appsec(places["appsec"]) | vendor_failures.scanner(places["appsec"]),
        lambda: vendor_accounts.identity(places["identity"]) | vendor_failures.vaults(places["identity"]),
        lambda: (
            vendor_accounts.data(places["data"], accounts["platform"])
            | organization_resources.secrets(places["data"], shared_key, hidden_key)
        ),
        lambda: organization_resources.laboratory(places["lab"]),
        lambda: organization_resources.management(places["management"]),
    ]
    with ThreadPoolExecutor(BUILDERS) as pool:
        for made in [pool.submit(task) for task in tasks]:
            things |= made.result()
    things |= vendor_failures.appliance(places["platform"], places["data"])
    things |= iam_fixtures.people(places, things)
    things |= trails(places)
    _use(server, things)
    return World(
        organization=organization,
        management=MANAGEMENT_ACCOUNT,
        accounts=accounts,
        units=units,
        regions=REGIONS,
        role_name=vendor_accounts.READER,
        external_id=EXTERNAL_ID,
        tier_tag=tier_tag,
        **things,
    )


def apply_permanent_faults(server: AwsServer, world: World) -> None:
    """Refuse what AWS would refuse and moto does not: two accounts without the ledger's role, one locked key."""
    caller = f"arn:aws:sts::{world.management}:assumed-role/kmsledger/crawl"
    for name in ("legacy", "retired"):
        role = world.role_arn(world.accounts[name])
        message = f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {role}"
        server.fault("sts", "AssumeRole", match=role, code="AccessDenied", message=message, status=403)
    account, key = world.accounts["data"], world.locked_key
    member = f"arn:aws:sts::{account}:assumed-role/{world.role_name}/crawl"
    # The policy of the appliance's key lists actions one by one, from before there was GetKeyLastUsage.
    for denied, operation in [*((key, each) for each in KEY_METADATA), (world.appliance_key, "GetKeyLastUsage")]:
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


def count(server: AwsServer, world: World) -> dict[tuple[str, str], int]:
    """How many of each kind every readable account has, over the regions in use: (account id, kind) → number.

    Kinds: keys, aliases (with a key), predefined_aliases (without one), grants, key_tags, secrets (with those that are
    scheduled for deletion), secret_policies, db_instances, replication_groups, buckets, trails, iam_users, iam_roles,
    iam_groups.
    What is denied on a single key counts as none.
    """
    scopes = [(account, region) for account in world.readable.values() for region in world.regions]
    totals = {(account, kind): 0 for account in world.readable.values() for kind in KINDS}
    with ThreadPoolExecutor(BUILDERS) as pool:
        for (account, _), found in zip(
            scopes, pool.map(lambda scope: _count_scope(server, *scope), scopes), strict=True
        ):
            for kind, number in found.items():
                totals[account, kind] += number
    for account in world.readable.values():
        session = server.session(account)
        totals[account, "buckets"] = len(session.client("s3").list_buckets()["Buckets"])
        for kind in ("users", "roles", "groups"):
            listed = _pages(session.client("iam"), f"list_{kind}", kind.capitalize())
            totals[account, f"iam_{kind}"] = sum(1 for _ in listed)
    return totals


KINDS = (
    *("keys", "aliases", "predefined_aliases", "grants", "key_tags", "secrets"),
    *("secret_policies", "db_instances", "replication_groups", "buckets", "trails"),
    *("iam_users", "iam_roles", "iam_groups"),
)


def _count_scope(server: AwsServer, account: str, region: str) -> Counter[str]:
    session = server.session(account, region)
    kms = session.client("kms")
    found: Counter[str] = Counter()
    for key in _pages(kms, "list_keys", "Keys"):
        found["keys"] += 1
        found["grants"] += _allowed(kms, "list_grants", "Grants", KeyId=key["KeyArn"])
        found["key_tags"] += _allowed(kms, "list_resource_tags", "Tags", KeyId=key["KeyArn"])
    for alias in _pages(kms, "list_aliases", "Aliases"):
        found["aliases" if "TargetKeyId" in alias else "predefined_aliases"] += 1
    lists = {
        "secrets": ("secretsmanager", "list_secrets", "SecretList", {"IncludePlannedDeletion": True}),
        "db_instances": ("rds", "describe_db_instances", "DBInstances", {}),
        "replication_groups": ("elasticache", "describe_replication_groups", "ReplicationGroups", {}),
    }
    secrets = session.client("secretsmanager")
    for secret in _pages(secrets, "list_secrets", "SecretList"):
        found["secret_policies"] += "ResourcePolicy" in secrets.get_resource_policy(SecretId=secret["ARN"])
    found["trails"] += len(session.client("cloudtrail").describe_trails(includeShadowTrails=False)["trailList"])
    for kind, (service, operation, items, options) in lists.items():
        found[kind] += sum(1 for _ in _pages(session.client(service), operation, items, **options))
    return found


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


def _use(server: AwsServer, things: Mapping[str, str]) -> None:
    """Let keys have been used: some just now, one months ago, one not since AWS tracks it, the others never."""
    for name, operation in USED.items():
        server.set_key_use(things[name], operation)
    months_ago = TRACKING_BEGAN + dt.timedelta(days=30)
    server.set_key_use(things["retiring_key"], "Decrypt", months_ago, created=TRACKING_BEGAN - dt.timedelta(days=700))
    server.set_key_use(things["forgotten_key"], None, created=TRACKING_BEGAN - dt.timedelta(days=1800))


def _units(organizations: Any) -> dict[str, str]:
    root = organizations.list_roots()["Roots"][0]["Id"]
    units = {"Root": root}
    for name in sorted(UNITS, key=lambda each: each in PARENT_UNIT):
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


def _reader(place: Place) -> None:
    """The role of the ledger: read-only, and only for the management account with the external id."""
    trust = policies.trust(policies.root(MANAGEMENT_ACCOUNT), EXTERNAL_ID)
    place.role(vendor_accounts.READER, trust, policies.identity("ReadKeysAndTheirUse", READER_ACTIONS, "*"))
