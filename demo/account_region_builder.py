"""Creates resources in one account and region of the demo organization, with one method for each kind of resource."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from demo.server import AwsServer

DEFAULT_BUCKET_REGION = "us-east-1"  # S3 rejects a location constraint there


@dataclass(frozen=True)
class AccountRegion:
    """An account in a region. Creates resources through the API as administrator; a failed call raises ClientError."""

    server: AwsServer
    account: str
    region: str
    _clients: dict[str, Any] = field(default_factory=dict)

    def in_region(self, region: str) -> AccountRegion:
        """The same account in another region."""
        return AccountRegion(self.server, self.account, region)

    def client(self, service: str) -> Any:
        """A boto3 client, created at the first use."""
        if service not in self._clients:
            self._clients[service] = self.server.session(self.account, self.region).client(service)
        return self._clients[service]

    def key(
        self,
        alias: str = "",
        *,
        policy: str | None = None,
        tags: dict[str, str] | None = None,
        rotation_days: int | None = None,
        **options: Any,
    ) -> str:
        """Create a key (options: see kms:CreateKey), with an alias and rotation if given. Returns the ARN."""
        kms = self.client("kms")
        if policy is not None:
            options["Policy"] = policy
        if tags:
            options["Tags"] = [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
        arn = str(kms.create_key(**options)["KeyMetadata"]["Arn"])
        if alias:
            kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=arn)
        if rotation_days:
            kms.enable_key_rotation(KeyId=arn, RotationPeriodInDays=rotation_days)
        return arn

    def alias_arn(self, alias: str) -> str:
        """The ARN of an alias in this account and region."""
        return f"arn:aws:kms:{self.region}:{self.account}:alias/{alias}"

    def grant(self, key: str, grantee: str, operations: list[str], **options: Any) -> str:
        """Create a grant on a key. Returns the grant id."""
        grant = self.client("kms").create_grant(KeyId=key, GranteePrincipal=grantee, Operations=operations, **options)
        return str(grant["GrantId"])

    def secret(self, name: str, key: str | None = None, **options: Any) -> str:
        """Create a secret; without `key` it is encrypted with `aws/secretsmanager`. Returns the ARN."""
        if key is not None:
            options["KmsKeyId"] = key
        response = self.client("secretsmanager").create_secret(Name=name, SecretString="fictional", **options)
        return str(response["ARN"])

    def bucket(self, name: str, algorithm: str | None = None, key: str | None = None) -> str:
        """Create a bucket with `algorithm` as default encryption (None: the default of S3). Returns the name."""
        s3 = self.client("s3")
        location = {} if self.region == DEFAULT_BUCKET_REGION else {"LocationConstraint": self.region}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": location} if location else {}))
        if algorithm:
            default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
            rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": algorithm != "AES256"}
            s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        return name

    def database(self, identifier: str, key: str | None = None, *, encrypted: bool = True, **options: Any) -> str:
        """Create an RDS instance (PostgreSQL by default). Returns the ARN."""
        settings: dict[str, Any] = {
            "Engine": "postgres",
            "DBInstanceClass": "db.t3.medium",
            "AllocatedStorage": 20,
            "MasterUsername": "northwind",
            "StorageEncrypted": encrypted,
            **({"KmsKeyId": key} if key else {}),
            **({} if "ManageMasterUserPassword" in options else {"MasterUserPassword": "fictional-password"}),
            **options,
        }
        response = self.client("rds").create_db_instance(DBInstanceIdentifier=identifier, **settings)
        return str(response["DBInstance"]["DBInstanceArn"])

    def cluster(self, identifier: str, key: str | None, instances: int) -> str:
        """Create an encrypted Aurora cluster with instances. Returns the ARN."""
        rds = self.client("rds")
        response = rds.create_db_cluster(
            DBClusterIdentifier=identifier,
            Engine="aurora-postgresql",
            MasterUsername="northwind",
            MasterUserPassword="fictional-password",
            StorageEncrypted=True,
            **({"KmsKeyId": key} if key else {}),
        )
        for number in range(1, instances + 1):
            rds.create_db_instance(
                DBInstanceIdentifier=f"{identifier}-{number}",
                DBClusterIdentifier=identifier,
                DBInstanceClass="db.r6g.large",
                Engine="aurora-postgresql",
            )
        return str(response["DBCluster"]["DBClusterArn"])

    def cache(self, identifier: str, key: str | None) -> str:
        """Create a Redis replication group, encrypted at rest if `key` is given. Returns the ARN."""
        response = self.client("elasticache").create_replication_group(
            ReplicationGroupId=identifier,
            ReplicationGroupDescription=f"{identifier} cache",
            Engine="redis",
            CacheNodeType="cache.t4g.small",
            NumCacheClusters=2,
            AtRestEncryptionEnabled=key is not None,
            **({"KmsKeyId": key} if key else {}),
        )
        return str(response["ReplicationGroup"]["ARN"])

    def role(
        self,
        name: str,
        trust: str,
        policy: str | None = None,
        tags: dict[str, str] | None = None,
        boundary: str | None = None,
    ) -> str:
        """Create an IAM role with an inline policy named `kms` and a permissions boundary (an ARN). Returns the ARN."""
        iam = self.client("iam")
        labels = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        boundary_option = {"PermissionsBoundary": boundary} if boundary else {}
        response = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=labels, **boundary_option)
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="kms", PolicyDocument=policy)
        return str(response["Role"]["Arn"])

    def managed_policy(self, name: str, policy: str) -> str:
        """Create a managed policy. Returns the ARN."""
        return str(self.client("iam").create_policy(PolicyName=name, PolicyDocument=policy)["Policy"]["Arn"])

    def attach(self, kind: str, name: str, policy: str) -> None:
        """Attach a managed policy to a `user`, `role` or `group`."""
        iam = self.client("iam")
        getattr(iam, f"attach_{kind}_policy")(PolicyArn=policy, **{f"{kind.capitalize()}Name": name})

    def group(self, name: str, *managed: str) -> None:
        """Create an IAM group with managed policies (ARNs)."""
        self.client("iam").create_group(GroupName=name)
        for policy in managed:
            self.attach("group", name, policy)

    def user(self, name: str, *groups: str) -> str:
        """Create an IAM user in `groups`. Returns the ARN."""
        iam = self.client("iam")
        response = iam.create_user(UserName=name)
        for group in groups:
            iam.add_user_to_group(UserName=name, GroupName=group)
        return str(response["User"]["Arn"])

    def trail(
        self, name: str, bucket: str, *, key: str | None = None, without_kms: bool = False, **options: Any
    ) -> str:
        """Create a trail for the management events of all regions, with or without KMS events. Returns the ARN."""
        cloudtrail = self.client("cloudtrail")
        options = {"IsMultiRegionTrail": True, "EnableLogFileValidation": True, **options}
        if key:
            options["KmsKeyId"] = key
        response = cloudtrail.create_trail(Name=name, S3BucketName=bucket, **options)
        selector = {"ReadWriteType": "All", "IncludeManagementEvents": True}
        if without_kms:
            selector["ExcludeManagementEventSources"] = ["kms.amazonaws.com"]
        cloudtrail.put_event_selectors(TrailName=name, EventSelectors=[selector])
        cloudtrail.start_logging(Name=name)
        return str(response["TrailARN"])
