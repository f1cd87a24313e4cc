"""The demo organization: all situations exist, as boto3 sees them, and the second run changes what it reports."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.kms.models import kms_backends

from demo import iam_fixtures, organization, policies, second_run_changes
from demo.moto_patches import TRACKING_BEGAN
from demo.organization import World
from demo.server import AwsServer

pytestmark = pytest.mark.deep  # the whole organization of the demo


def client_of(server: AwsServer, arn: str) -> Any:
    _, _, service, region, account, _ = arn.split(":", 5)
    return server.session(account, region).client(service)


def metadata(server: AwsServer, arn: str) -> dict[str, Any]:
    result: dict[str, Any] = client_of(server, arn).describe_key(KeyId=arn)["KeyMetadata"]
    return result


def statements(server: AwsServer, arn: str) -> list[dict[str, Any]]:
    text = client_of(server, arn).get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    result: list[dict[str, Any]] = json.loads(text)["Statement"]
    return result


@pytest.fixture
def permanent_faults(aws_server: AwsServer, demo_world: World) -> Iterator[AwsServer]:
    organization.apply_permanent_faults(aws_server, demo_world)
    yield aws_server
    aws_server.clear_faults()


def test_accounts_are_in_their_units(aws_server: AwsServer, demo_world: World) -> None:
    """Nine accounts, one of them suspended, are in three units, one of them nested; accounts have tags."""
    client = aws_server.session().client("organizations")
    accounts = {each["Id"]: each for each in client.list_accounts()["Accounts"]}
    assert accounts.keys() == set(demo_world.accounts.values())
    assert [each["Name"] for each in accounts.values() if each["Status"] == "SUSPENDED"] == ["northwind-retired"]
    assert accounts[demo_world.management]["Name"] == "northwind-management"
    parents = client.list_parents(ChildId=demo_world.units["Regulated"])["Parents"]
    assert parents == [{"Id": demo_world.units["Production"], "Type": "ORGANIZATIONAL_UNIT"}]
    in_sandbox = client.list_accounts_for_parent(ParentId=demo_world.units["Sandbox"])["Accounts"]
    assert {each["Id"] for each in in_sandbox} == {demo_world.accounts[name] for name in ("lab", "legacy", "retired")}
    tags = client.list_tags_for_resource(ResourceId=demo_world.accounts["lab"])["Tags"]
    assert {"Key": "Owner", "Value": "team-lab"} in tags


def test_the_crawl_role_requires_the_external_id(aws_server: AwsServer, demo_world: World) -> None:
    """Every readable account has the role, which requires the external id; account legacy has no role."""
    for account in demo_world.readable.values():
        role = aws_server.session(account).client("iam").get_role(RoleName=demo_world.role_name)["Role"]
        assert role["Arn"] == demo_world.role_arn(account)
        [trust] = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": demo_world.external_id}}
    legacy = aws_server.session(demo_world.accounts["legacy"]).client("iam")
    with pytest.raises(ClientError, match="NoSuchEntity"):
        legacy.get_role(RoleName=demo_world.role_name)


def test_every_named_resource_exists(aws_server: AwsServer, demo_world: World) -> None:
    """Each named ARN can be looked up in its account and region."""
    for name in organization.NamedResources.__dataclass_fields__:
        arn = getattr(demo_world, name)
        client, kind = client_of(aws_server, arn), arn.split(":", 5)[5]
        if ":key/" in arn:
            assert metadata(aws_server, arn)["Arn"] == arn, name
        elif ":alias/" in arn:
            assert arn in {each["AliasArn"] for each in client.list_aliases()["Aliases"]}, name
        elif ":secret:" in arn:
            assert client.describe_secret(SecretId=arn)["ARN"] == arn, name
        elif ":role/" in arn:
            assert client.get_role(RoleName=arn.rpartition("/")[2])["Role"]["Arn"] == arn, name
        elif ":user/" in arn:
            assert client.get_user(UserName=arn.rpartition("/")[2])["User"]["Arn"] == arn, name
        elif kind.startswith("db:"):
            assert client.describe_db_instances(DBInstanceIdentifier=kind[3:])["DBInstances"], name
        elif kind.startswith("cluster:"):
            assert client.describe_db_clusters(DBClusterIdentifier=kind[8:])["DBClusters"], name
        elif kind.startswith("trail/"):
            assert arn in {each["TrailARN"] for each in client.list_trails()["Trails"]}, name
        else:
            groups = client.describe_replication_groups(ReplicationGroupId=kind.rpartition(":")[2])
            assert groups["ReplicationGroups"], name


def test_principals_have_every_kind_of_access_path(aws_server: AwsServer, demo_world: World) -> None:
    """IAM contains inline, attached and group policies, a boundary, an external trust, and AWS managed policies."""
    details = {
        arn: client_of(aws_server, arn).get_account_authorization_details()
        for arn in (demo_world.developer, demo_world.administrator_role, demo_world.partner_role)
    }
    payments, lab, platform = details.values()
    (maria,), (developers,) = payments["UserDetailList"], payments["GroupDetailList"]
    assert (maria["Arn"], maria["GroupList"]) == (demo_world.developer, [developers["GroupName"]])
    assert [policy["PolicyName"] for policy in developers["AttachedManagedPolicies"]] == ["use-the-tier-key"]
    deployment = next(role for role in payments["RoleDetailList"] if role["Arn"] == demo_world.bounded_role)
    boundary = deployment["PermissionsBoundary"]["PermissionsBoundaryArn"]
    policies_here = {policy["Arn"]: policy for policy in payments["Policies"]}
    assert "no-keys" in boundary
    assert boundary in policies_here
    admin = next(role for role in lab["RoleDetailList"] if role["Arn"] == demo_world.administrator_role)
    assert [policy["PolicyArn"] for policy in admin["AttachedManagedPolicies"]] == [iam_fixtures.ADMINISTRATOR_ACCESS]
    (unused,) = [policy for policy in platform["Policies"] if policy["Arn"] == iam_fixtures.ADMINISTRATOR_ACCESS]
    assert unused["AttachmentCount"] == 0
    partner = next(role for role in platform["RoleDetailList"] if role["Arn"] == demo_world.partner_role)
    assert policies.STRANGER_ACCOUNT in str(partner["AssumeRolePolicyDocument"])


def test_a_secret_is_shared_by_its_resource_policy(aws_server: AwsServer, demo_world: World) -> None:
    """One secret has a resource policy, the others have none."""
    client = client_of(aws_server, demo_world.key_arn_secret)
    text = client.get_resource_policy(SecretId=demo_world.key_arn_secret)["ResourcePolicy"]
    assert json.loads(text)["Statement"][0]["Principal"] == {"AWS": policies.root(demo_world.accounts["platform"])}
    assert "ResourcePolicy" not in client.get_resource_policy(SecretId=demo_world.default_secret)


def test_trails_are_described_where_they_record(permanent_faults: AwsServer, demo_world: World) -> None:
    """All accounts see the organization trail, only the owner sees other trails, and one trail denies GetEventSelectors."""
    seen = {
        name: {
            trail["TrailARN"]
            for trail in permanent_faults.session(account, "eu-west-1")
            .client("cloudtrail")
            .describe_trails()["trailList"]
        }
        for name, account in demo_world.readable.items()
    }
    assert seen["lab"] == seen["management"] == {demo_world.organization_trail}
    assert seen["payments"] == {demo_world.organization_trail, demo_world.trail_without_kms}
    management = client_of(permanent_faults, demo_world.organization_trail)
    (selector,) = management.get_event_selectors(TrailName=demo_world.organization_trail)["EventSelectors"]
    assert (selector["ReadWriteType"], selector.get("ExcludeManagementEventSources")) == ("All", None)
    with pytest.raises(ClientError, match="no identity-based policy allows the cloudtrail:GetEventSelectors"):
        client_of(permanent_faults, demo_world.silent_trail).get_event_selectors(TrailName=demo_world.silent_trail)


def test_the_organization_has_a_realistic_size(permanent_faults: AwsServer, demo_world: World) -> None:
    """The organization is large enough for a demo, and denied calls do not stop the count."""
    counted = organization.count(permanent_faults, demo_world)
    totals = {kind: sum(n for (_, each), n in counted.items() if each == kind) for kind in organization.KINDS}
    assert {account for account, _ in counted} == set(demo_world.readable.values())
    assert 60 <= totals["keys"] <= 110
    assert totals["secrets"] >= 40
    assert totals["db_instances"] >= 14
    assert totals["buckets"] >= 20
    assert totals["grants"] == 7
    assert (totals["iam_users"], totals["iam_groups"], totals["secret_policies"]) == (1, 1, 1)
    assert totals["iam_roles"] >= 15
    assert (totals["replication_groups"], totals["trails"]) == (5, 5)
    assert totals["predefined_aliases"] > totals["aliases"] > 60


def test_denials_have_principal_action_and_cause(permanent_faults: AwsServer, demo_world: World) -> None:
    """AssumeRole is denied in account legacy, and calls on the locked key are denied with the message of AWS."""
    sts = permanent_faults.session().client("sts")
    role = demo_world.role_arn(demo_world.accounts["legacy"])
    with pytest.raises(ClientError, match=r"AccessDenied.*sts:AssumeRole on resource") as refusal:
        sts.assume_role(RoleArn=role, RoleSessionName="crawl", ExternalId=demo_world.external_id)
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    kms = client_of(permanent_faults, demo_world.locked_key)
    with pytest.raises(ClientError, match=r"no resource-based policy allows the kms:GetKeyPolicy action"):
        kms.get_key_policy(KeyId=demo_world.locked_key, PolicyName="default")
    assert demo_world.locked_key in {key["KeyArn"] for key in kms.list_keys()["Keys"]}


def last_usage(server: AwsServer, arn: str) -> dict[str, Any]:
    result: dict[str, Any] = client_of(server, arn).get_key_last_usage(KeyId=arn)
    return result


def test_keys_have_a_last_use(aws_server: AwsServer, demo_world: World) -> None:
    """Some keys were used just now, one several months ago, most never; one key predates the tracking, so its use is unknown."""
    for name, operation in organization.LAST_OPERATIONS.items():
        usage = last_usage(aws_server, getattr(demo_world, name))
        assert usage["KeyLastUsage"]["Operation"] == operation
        assert usage["TrackingStartDate"] <= usage["KeyLastUsage"]["Timestamp"]
    months_ago = last_usage(aws_server, demo_world.retiring_key)
    assert months_ago["KeyLastUsage"]["Timestamp"] == TRACKING_BEGAN + dt.timedelta(days=30)
    assert months_ago["KeyCreationDate"] < months_ago["TrackingStartDate"] == TRACKING_BEGAN
    never = last_usage(aws_server, demo_world.opened_key)
    assert (never["KeyId"], never["KeyLastUsage"]) == (demo_world.opened_key, {})
    assert (
        never["TrackingStartDate"] == never["KeyCreationDate"] == metadata(aws_server, never["KeyId"])["CreationDate"]
    )
    unknown = last_usage(aws_server, demo_world.forgotten_key)
    assert unknown["KeyLastUsage"] == {}
    assert unknown["KeyCreationDate"] < unknown["TrackingStartDate"] == TRACKING_BEGAN
    assert last_usage(aws_server, demo_world.retiring_key)["KeyLastUsage"] == months_ago["KeyLastUsage"]


def test_last_use_accepts_id_or_arn_and_can_be_denied(permanent_faults: AwsServer, demo_world: World) -> None:
    """GetKeyLastUsage rejects aliases and unknown keys, and a policy that does not list the action denies it."""
    kms = client_of(permanent_faults, demo_world.tier_key)
    assert kms.get_key_last_usage(KeyId=demo_world.tier_key.rpartition("/")[2])["KeyId"] == demo_world.tier_key
    for nobody in ("alias/payments-database", "1234abcd-12ab-34cd-56ef-1234567890ab"):
        with pytest.raises(ClientError, match="NotFoundException"):
            kms.get_key_last_usage(KeyId=nobody)
    with pytest.raises(ClientError, match=r"no resource-based policy allows the kms:GetKeyLastUsage action"):
        last_usage(permanent_faults, demo_world.appliance_key)
    assert metadata(permanent_faults, demo_world.appliance_key)["Arn"] == demo_world.appliance_key


def test_the_scanner_key_is_shared_as_documented(aws_server: AwsServer, demo_world: World) -> None:
    """The vendor account is in both statements of one key, and only in the usage statement of another."""
    vendor = policies.root(policies.CHECKMARX_ACCOUNT)

    def sids(key: str) -> list[str]:
        return [each["Sid"] for each in statements(aws_server, key) if vendor in each["Principal"]["AWS"]]

    assert sids(demo_world.vendor_key) == ["Allow use of the key", "Allow attachment of persistent resources"]
    assert sids(demo_world.half_shared_key) == ["Allow use of the key"]
    key = metadata(aws_server, demo_world.vendor_key)
    assert (key["KeySpec"], key["MultiRegion"], key["KeyManager"]) == ("SYMMETRIC_DEFAULT", False, "CUSTOMER")
    stranded = client_of(aws_server, demo_world.stranded_database)
    [database] = stranded.describe_db_instances(DBInstanceIdentifier="legacy-scans")["DBInstances"]
    assert database["KmsKeyId"] == demo_world.disabled_key
    assert database["DBInstanceStatus"] == "inaccessible-encryption-credentials-recoverable"
    assert metadata(aws_server, demo_world.disabled_key)["KeyState"] == "Disabled"
    assert "DeletionDate" in metadata(aws_server, demo_world.doomed_key)


def test_the_vault_spans_two_regions(aws_server: AwsServer, demo_world: World) -> None:
    """Primary and replica have their types and aliases, and the role allows both."""
    for arn, kind in ((demo_world.vault_key, "PRIMARY"), (demo_world.vault_replica, "REPLICA")):
        key = metadata(aws_server, arn)
        assert key["KeySpec"] == "RSA_4096"
        assert key["MultiRegionConfiguration"]["MultiRegionKeyType"] == kind
        aliases = client_of(aws_server, arn).list_aliases(KeyId=arn)["Aliases"]
        assert [each["AliasArn"].split(":")[3] for each in aliases] == [arn.split(":")[3]]
    iam = client_of(aws_server, demo_world.vault_role)
    policy = iam.get_role_policy(RoleName="CerbyVaultAccess", PolicyName="kms")["PolicyDocument"]
    assert policy["Statement"][0]["Resource"] == [demo_world.vault_key, demo_world.vault_replica]


def test_secrets_reference_their_keys_in_every_form(aws_server: AwsServer, demo_world: World) -> None:
    """Each key reference is listed as given; the AWS managed key is not listed, but exists."""
    client = client_of(aws_server, demo_world.default_secret)
    pages = client.get_paginator("list_secrets").paginate(IncludePlannedDeletion=True)
    keys = {each["ARN"]: each.get("KmsKeyId") for page in pages for each in page["SecretList"]}
    assert keys[demo_world.default_secret] is keys[demo_world.managed_alias_secret] is None
    assert keys[demo_world.key_id_secret] == demo_world.secrets_key.rpartition("/")[2]
    assert keys[demo_world.alias_name_secret] == "alias/secrets"
    assert keys[demo_world.shared_key_secret] == demo_world.shared_key
    assert keys[demo_world.deleted_secret] == demo_world.secrets_key
    kms = aws_server.session(demo_world.accounts["data"]).client("kms")
    aliases = {each["AliasName"]: each.get("TargetKeyId") for each in kms.list_aliases()["Aliases"]}
    managed = kms.describe_key(KeyId=aliases["alias/aws/secretsmanager"])["KeyMetadata"]
    assert managed["KeyManager"] == "AWS"
    assert aliases["alias/aws/xray"] is None


def test_databases_without_a_key_use_the_aws_managed_key(aws_server: AwsServer, demo_world: World) -> None:
    """The region without a tier key has a database with aws/rds, one with another key and an unencrypted one."""
    rds = client_of(aws_server, demo_world.untiered_database)
    result = {each["DBInstanceIdentifier"]: each.get("KmsKeyId") for each in rds.describe_db_instances()["DBInstances"]}
    assert metadata(aws_server, result["disputes"])["KeyManager"] == "AWS"
    assert metadata(aws_server, result["chargebacks"])["KeyManager"] == "CUSTOMER"
    assert result["sandbox"] is None
    orders = client_of(aws_server, demo_world.tier_database)
    [database] = orders.describe_db_instances(DBInstanceIdentifier="orders")["DBInstances"]
    assert database["KmsKeyId"] == demo_world.tier_key
    assert database["PerformanceInsightsKMSKeyId"] != demo_world.tier_key


def test_buckets_have_every_kind_of_encryption(aws_server: AwsServer, demo_world: World) -> None:
    """New buckets use SSE-S3; others reference a key by ARN, id or alias, or use aws:kms without a key; all have a region."""

    def default(account: str, bucket: str) -> dict[str, str]:
        s3 = aws_server.session(demo_world.accounts[account]).client("s3")
        answer = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
        result: dict[str, str] = answer["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        return result

    assert default("lab", "northwind-lab-plain") == {"SSEAlgorithm": "AES256"}
    assert default("payments", "northwind-payments-dublin") == {"SSEAlgorithm": "aws:kms"}
    assert default("lab", "northwind-lab-alias")["KMSMasterKeyID"] == "alias/hostile"
    assert default("data", "northwind-data-research")["SSEAlgorithm"] == "aws:kms:dsse"
    buckets = aws_server.session(demo_world.accounts["payments"]).client("s3").list_buckets(MaxBuckets=1000)["Buckets"]
    assert {each["BucketRegion"] for each in buckets} == {"us-east-1", "us-west-2", "eu-west-1"}


def test_rotation_grants_and_trails_have_details(aws_server: AwsServer, demo_world: World) -> None:
    """Rotation has a period, grants have date and issuer, and one trail excludes KMS events."""
    tier = client_of(aws_server, demo_world.tier_key).get_key_rotation_status(KeyId=demo_world.tier_key)
    assert (tier["KeyRotationEnabled"], tier["RotationPeriodInDays"]) == (True, 180)
    grants = client_of(aws_server, demo_world.granted_key_of_platform).list_grants(
        KeyId=demo_world.granted_key_of_platform
    )["Grants"]
    assert len(grants) == 6
    assert all({"CreationDate", "IssuingAccount"} <= grant.keys() for grant in grants)
    trails = aws_server.session(demo_world.accounts["data"]).client("cloudtrail")
    [selector] = trails.get_event_selectors(TrailName="northwind-data")["EventSelectors"]
    assert selector["ExcludeManagementEventSources"] == ["kms.amazonaws.com"]


def test_hostile_texts_are_returned_unchanged(aws_server: AwsServer, demo_world: World) -> None:
    """The API returns the texts that attack reports unchanged."""
    assert metadata(aws_server, demo_world.hostile_key)["Description"] == "<script>alert(1)</script>"
    kms = client_of(aws_server, demo_world.hostile_key)
    tags = {each["TagKey"]: each["TagValue"] for each in kms.list_resource_tags(KeyId=demo_world.hostile_key)["Tags"]}
    assert tags["formula"] == "=cmd|' /C calc'!A0"
    assert tags["right-to-left"].startswith("\u202e")


def test_the_second_run_has_eight_changes(second_run: list[str], aws_server: AwsServer, demo_world: World) -> None:
    """Each message is true for the state, policy, alias, secret, tag and vendor key that it describes."""
    deletion, opening, move, rekeying, removal, unsharing, disabling, ending = second_run
    assert demo_world.retiring_key in deletion
    assert metadata(aws_server, demo_world.retiring_key)["KeyState"] == "PendingDeletion"
    stranger = policies.root(policies.STRANGER_ACCOUNT)
    assert demo_world.opened_key in opening
    assert statements(aws_server, demo_world.opened_key)[-1]["Principal"]["AWS"] == stranger
    aliases = client_of(aws_server, demo_world.moved_to).list_aliases(KeyId=demo_world.moved_to)["Aliases"]
    assert [each["AliasArn"] for each in aliases if each["AliasArn"] in move] == [demo_world.moved_alias]
    secret = client_of(aws_server, demo_world.rekeyed_secret).describe_secret(SecretId=demo_world.rekeyed_secret)
    assert secret["ARN"] in rekeying
    assert "KmsKeyId" not in secret
    tags = client_of(aws_server, demo_world.tier_key).list_resource_tags(KeyId=demo_world.tier_key)["Tags"]
    assert demo_world.tier_key in removal
    assert [each["TagKey"] for each in tags] == ["Owner"]
    assert demo_world.unshared_key in unsharing
    assert policies.CHECKMARX_ACCOUNT not in json.dumps(statements(aws_server, demo_world.unshared_key))
    assert demo_world.disabled_vault_key in disabling
    assert metadata(aws_server, demo_world.disabled_vault_key)["KeyState"] == "Disabled"
    assert demo_world.trial_key in ending
    with pytest.raises(ClientError, match="NotFoundException"):
        metadata(aws_server, demo_world.trial_key)


@pytest.fixture
def second_run(aws_server: AwsServer, demo_world: World) -> Iterator[list[str]]:
    """Make the changes of the second run, and revert them after the test."""
    world = demo_world
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements(aws_server, world.opened_key)})
    secrets = client_of(aws_server, world.rekeyed_secret)
    secret = secrets.describe_secret(SecretId=world.rekeyed_secret)
    shared = json.dumps({"Version": "2012-10-17", "Statement": statements(aws_server, world.unshared_key)})
    _, _, _, region, account, resource = world.trial_key.split(":", 5)
    trial = kms_backends[account][region].keys[resource.removeprefix("key/")]
    yield second_run_changes.change(aws_server, world)
    kms_backends[account][region].keys[trial.id] = trial
    client_of(aws_server, world.unshared_key).put_key_policy(
        KeyId=world.unshared_key, PolicyName="default", Policy=shared
    )
    client_of(aws_server, world.disabled_vault_key).enable_key(KeyId=world.disabled_vault_key)
    retiring = client_of(aws_server, world.retiring_key)
    retiring.cancel_key_deletion(KeyId=world.retiring_key)
    retiring.enable_key(KeyId=world.retiring_key)
    opened = client_of(aws_server, world.opened_key)
    opened.put_key_policy(KeyId=world.opened_key, PolicyName="default", Policy=policy)
    name = world.moved_alias.split(":", 5)[5]
    client_of(aws_server, world.moved_from).update_alias(AliasName=name, TargetKeyId=world.moved_from)
    secrets.update_secret(SecretId=secret["Name"], KmsKeyId=secret["KmsKeyId"])
    tag, value = world.tier_tag
    tags = [{"TagKey": tag, "TagValue": value}]
    client_of(aws_server, world.tier_key).tag_resource(KeyId=world.tier_key, Tags=tags)
