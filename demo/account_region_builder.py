"""One account in one region of the demo organization, with a verb for each kind of thing that is made there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from demo.server import AwsServer

DEFAULT_BUCKET_REGION = "us-east-1"  # S3 wants no location constraint there


@dataclass(frozen=True)
class Place:
    """Makes things through the API, as the account's administrator. Every failed call raises botocore's ClientError."""

    server: AwsServer
    account: str
    region: str
    _clients: dict[str, Any] = field(default_factory=dict)

    def at(self, region: str) -> Place:
        """The same account in another region."""
        return Place(self.server, self.account, region)

    def client(self, service: str) -> Any:
        """A boto3 client, made once."""
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
        """Create a key (options as of kms:CreateKey), alias it, let it rotate. Returns its ARN."""
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
        """The ARN of an alias of this place."""
        return f"arn:aws:kms:{self.region}:{self.account}:alias/{alias}"

    def grant(self, key: str, grantee: str, operations: list[str], **options: Any) -> str:
        """Create a grant on a key. Returns its id."""
        grant = self.client("kms").create_grant(KeyId=key, GranteePrincipal=grantee, Operations=operations, **options)
        return str(grant["GrantId"])

    def secret(self, name: str, key: str | None = None, **options: Any) -> str:
        """Create a secret; without `key` it is under `aws/secretsmanager`. Returns its ARN."""
        if key is not None:
            options["KmsKeyId"] = key
        made = self.client("secretsmanager").create_secret(Name=name, SecretString="made up", **options)
        return str(made["ARN"])

    def bucket(self, name: str, algorithm: str | None = None, key: str | None = None) -> str:
        """Create a bucket with default encryption by `algorithm` (None: as S3 makes it). Returns its name."""
        s3 = self.client("s3")
        where = {} if self.region == DEFAULT_BUCKET_REGION else {"LocationConstraint": self.region}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        if algorithm:
            default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
            rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": algorithm != "AES256"}
            s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
        return name

    def database(self, identifier: str, key: str | None = None, *, encrypted: bool = True, **options: Any) -> str:
        """Create an RDS instance (PostgreSQL unless told otherwise). Returns its ARN."""
        settings: dict[str, Any] = {
            "Engine": "postgres",
            "DBInstanceClass": "db.t3.medium",
            "AllocatedStorage": 20,
            "MasterUsername": "northwind",
            "StorageEncrypted": encrypted,
            **({"KmsKeyId": key} if key else {}),
            **({} if "ManageMasterUserPassword" in options else {"MasterUserPassword": "made-up-password"}),
            **options,
        }
        made = self.client("rds").create_db_instance(DBInstanceIdentifier=identifier, **settings)
        return str(made["DBInstance"]["DBInstanceArn"])

    def cluster(self, identifier: str, key: str | None, instances: int) -> str:
        """Create an encrypted Aurora cluster with instances. Returns its ARN."""
        rds = self.client("rds")
        made = rds.create_db_cluster(
            DBClusterIdentifier=identifier,
            Engine="aurora-postgresql",
            MasterUsername="northwind",
            MasterUserPassword="made-up-password",
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
        return str(made["DBCluster"]["DBClusterArn"])

    def cache(self, identifier: str, key: str | None) -> str:
        """Create a Redis replication group, encrypted at rest when it has a key. Returns its ARN."""
        made = self.client("elasticache").create_replication_group(
            ReplicationGroupId=identifier,
            ReplicationGroupDescription=f"{identifier} cache",
            Engine="redis",
            CacheNodeType="cache.t4g.small",
            NumCacheClusters=2,
            AtRestEncryptionEnabled=key is not None,
            **({"KmsKeyId": key} if key else {}),
        )
        return str(made["ReplicationGroup"]["ARN"])

    def role(
        self,
        name: str,
        trust: str,
        policy: str | None = None,
        tags: dict[str, str] | None = None,
        boundary: str | None = None,
    ) -> str:
        """Create an IAM role with an inline policy named `kms`, within a boundary (an ARN). Returns its ARN."""
        iam = self.client("iam")
        labels = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        bound = {"PermissionsBoundary": boundary} if boundary else {}
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, Tags=labels, **bound)
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="kms", PolicyDocument=policy)
        return str(made["Role"]["Arn"])

    def managed_policy(self, name: str, policy: str) -> str:
        """Create a managed policy. Returns its ARN."""
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
        """Create an IAM user in some groups. Returns its ARN."""
        iam = self.client("iam")
        made = iam.create_user(UserName=name)
        for group in groups:
            iam.add_user_to_group(UserName=name, GroupName=group)
        return str(made["User"]["Arn"])

    def trail(
        self, name: str, bucket: str, *, key: str | None = None, without_kms: bool = False, **options: Any
    ) -> str:
        """Log management events of all regions to a bucket, with or without those of KMS. Returns the trail's ARN."""
        cloudtrail = self.client("cloudtrail")
        options = {"IsMultiRegionTrail": True, "EnableLogFileValidation": True, **options}
        if key:
            options["KmsKeyId"] = key
        made = cloudtrail.create_trail(Name=name, S3BucketName=bucket, **options)
        selector = {"ReadWriteType": "All", "IncludeManagementEvents": True}
        if without_kms:
            selector["ExcludeManagementEventSources"] = ["kms.amazonaws.com"]
        cloudtrail.put_event_selectors(TrailName=name, EventSelectors=[selector])
        cloudtrail.start_logging(Name=name)
        return str(made["TrailARN"])
