"""The rest of the demo organization: databases, secrets, grants, shared keys, unusual policies and hostile texts.

Each function creates the resources of one account and returns their ARNs by the field names of `demo.organization.World`.
"""

from __future__ import annotations

from demo import policies
from demo.account_region_builder import AccountRegion
from demo.policies import allow, delegation, document, root

HOSTILE_TEXTS = {
    "script": "<script>alert(1)</script>",
    "formula": "=cmd|' /C calc'!A0",
    "link": '<a href="javascript:alert(2)">click</a>',
    "right-to-left": "\u202egpj.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "quotes": "'; DROP TABLE keys; -- \"\\",
    "template": "{{ 7 * 7 }} {% raw %} ${jndi:ldap://x}",
    "long": "very long " * 25,
}
LONG_ALIAS = "n" * 240


def payments(scope: AccountRegion, tier: tuple[str, str]) -> dict[str, str]:
    """The database tier: correct in one region, without its key in another, with an unused key in a third."""
    virginia, oregon, dublin = scope.in_region("us-east-1"), scope.in_region("us-west-2"), scope.in_region("eu-west-1")
    label = {tier[0]: tier[1], "Owner": "payments"}

    tier_key = virginia.key("payments-database", Description="Database tier", tags=label, rotation_days=180)
    insights = virginia.key("payments-insights", Description="Performance Insights")
    master = virginia.key("payments-master-secrets")
    exports = virginia.key("payments-exports", tags={"Owner": "payments"})
    service = virginia.key("payments-api", tags={"Owner": "payments"}, rotation_days=365)
    database = virginia.database(
        "orders",
        tier_key,
        ManageMasterUserPassword=True,
        MasterUserSecretKmsKeyId=master,
        EnablePerformanceInsights=True,
        PerformanceInsightsKMSKeyId=insights,
    )
    virginia.database("refunds", "alias/payments-database")
    cluster = virginia.cluster("ledger", tier_key, instances=2)
    rds = virginia.client("rds")
    rds.create_db_snapshot(DBInstanceIdentifier="orders", DBSnapshotIdentifier="orders-2026-q3")
    rds.create_db_cluster_snapshot(DBClusterIdentifier="ledger", DBClusterSnapshotIdentifier="ledger-2026-q3")
    virginia.cache("sessions", service)
    virginia.bucket("northwind-payments-exports", "aws:kms", exports)
    virginia.bucket("northwind-payments-receipts", "aws:kms", virginia.alias_arn("payments-api"))
    rekeyed = virginia.secret("payments/acquirer", service)
    for name in ("fraud-score", "sepa", "swift", "tokenizer"):
        virginia.secret(f"payments/{name}", service)

    general = oregon.key("payments-general", tags={"Owner": "payments"})
    untiered = oregon.database("disputes")
    oregon.database("chargebacks", general)
    oregon.database("sandbox", encrypted=False)
    oregon.bucket("northwind-payments-oregon", "AES256")
    oregon.secret("payments/disputes", general)
    oregon.secret("payments/cards-legacy")

    dublin.key("payments-database", tags=label, rotation_days=365)
    cards = dublin.key("payments-cards", tags={"Owner": "payments"})
    dublin.database("cards", cards)
    dublin.bucket("northwind-payments-dublin", "aws:kms")
    dublin.secret("payments/cards", cards)
    dublin.secret("payments/cards-legacy", AddReplicaRegions=[{"Region": "us-west-2"}])  # fails: the name exists there
    return {
        "tier_key": tier_key,
        "tier_database": database,
        "tier_cluster": cluster,
        "untiered_database": untiered,
        "retiring_key": exports,
        "rekeyed_secret": rekeyed,
    }


def platform(scope: AccountRegion, organization: str, customers: list[str]) -> dict[str, str]:
    """Keys that other accounts of the organization (`customers`) use, and grants of every kind."""
    virginia, oregon, account = scope.in_region("us-east-1"), scope.in_region("us-west-2"), scope.account
    tags = {"Owner": "platform"}
    shared = virginia.key(
        "shared-services",
        policy=document(
            delegation(account),
            allow("Accounts of the company", [root(customer) for customer in customers], policies.USE),
        ),
        tags=tags,
        rotation_days=365,
    )
    within = allow("Organization", "*", policies.USE, Condition={"StringEquals": {"aws:PrincipalOrgID": organization}})
    virginia.key("organization-wide", policy=document(delegation(account), within), tags=tags)
    opened = virginia.key("partner-exchange", policy=document(delegation(account)), tags=tags)
    granted = virginia.key("grants", Description="Carries grants of every kind", tags=tags)
    _grants(virginia, granted)

    queue = virginia.key("messaging", policy=document(delegation(account), *map(_through, ("sns", "sqs"))), tags=tags)
    virginia.client("sqs").create_queue(QueueName="orders", Attributes={"KmsMasterKeyId": queue})
    virginia.client("sns").create_topic(Name="alarms", Attributes={"KmsMasterKeyId": "alias/messaging"})
    logs = virginia.key("logs", policy=document(delegation(account), _through("logs")), tags=tags)
    virginia.client("logs").create_log_group(logGroupName="/northwind/platform", kmsKeyId=logs)
    tables = virginia.key("tables", tags=tags)
    virginia.client("dynamodb").create_table(
        TableName="inventory",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": tables},
    )
    virginia.client("elasticache").create_cache_cluster(
        CacheClusterId="fragments", Engine="memcached", CacheNodeType="cache.t4g.micro", NumCacheNodes=1
    )
    virginia.bucket("northwind-platform-artifacts", "aws:kms", shared)
    virginia.bucket("northwind-platform-public", "AES256")
    for name in ("ci", "dns", "pager", "registry"):
        virginia.secret(f"platform/{name}", "alias/shared-services")

    for purpose in ("recovery", "replication", "vault"):
        oregon.key(f"disaster-{purpose}", tags={**tags, "Purpose": purpose}, rotation_days=365)
    oregon.bucket("northwind-platform-recovery", "aws:kms", oregon.alias_arn("disaster-recovery"))
    oregon.database("catalog", "alias/disaster-recovery")
    return {"shared_key": shared, "opened_key": opened, "granted_key_of_platform": granted}


def secrets(scope: AccountRegion, shared_key: str, hidden_key: str) -> dict[str, str]:
    """Secrets with every form of key reference: none, AWS managed, id, ARN, alias, other accounts, deleted keys."""
    virginia, account = scope.in_region("us-east-1"), scope.account
    key = virginia.key("secrets", Description="Secrets of the data account", tags={"Owner": "data"}, rotation_days=365)
    dangling = "0dead000-1111-2222-3333-444455556666"
    outside = f"arn:aws:kms:us-east-1:{policies.STRANGER_ACCOUNT}:key/1b2c3d4e-0000-4000-8000-00000000c0de"
    references = {
        "default_secret": None,
        "managed_alias_secret": "alias/aws/secretsmanager",
        "key_id_secret": key.rpartition("/")[2],
        "key_arn_secret": key,
        "alias_name_secret": "alias/secrets",
        "alias_arn_secret": virginia.alias_arn("secrets"),
        "shared_key_secret": shared_key,
        "hidden_key_secret": hidden_key,
        "outside_key_secret": outside,
        "dangling_key_secret": dangling,
        "dangling_alias_secret": "alias/was-deleted-long-ago",
        "dangling_arn_secret": f"arn:aws:kms:us-east-1:{account}:key/{dangling}",
        "deleted_secret": key,
    }
    created = {
        name: virginia.secret(f"data/{name.replace('_', '-')}", reference) for name, reference in references.items()
    }
    virginia.client("secretsmanager").delete_secret(SecretId="data/deleted-secret", RecoveryWindowInDays=14)
    dublin = scope.in_region("eu-west-1")
    for name in ("research", "export", "notebooks"):
        dublin.secret(f"data/{name}")
    virginia.database("warehouse", shared_key)
    return {"secrets_key": key, **created}


def laboratory(scope: AccountRegion) -> dict[str, str]:
    """A sandbox: policies whose effect differs from their appearance, and texts that attack the program showing them."""
    dublin, virginia, account = scope.in_region("eu-west-1"), scope.in_region("us-east-1"), scope.account
    base = delegation(account)
    caller = {"StringEquals": {"kms:CallerAccount": account}}
    through = {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}
    admin = [root(account), f"arn:aws:iam::{account}:role/Admin"]
    denial = {"Effect": "Deny", "NotPrincipal": {"AWS": admin}, "Action": ["kms:Decrypt"], "Resource": "*"}
    except_one = {"Effect": "Allow", "NotPrincipal": {"AWS": admin[1]}, "Action": policies.USE, "Resource": "*"}
    without_resource = {
        "Effect": "Allow",
        "Principal": {"AWS": root(policies.STRANGER_ACCOUNT)},
        "Action": policies.USE,
    }
    not_action = {"Effect": "Allow", "Principal": {"AWS": admin[1]}, "NotAction": ["kms:Decrypt"], "Resource": "*"}
    deleted = ["AIDACKCEVSQ6C2EXAMPLE", "AROADBQP57FF2AEXAMPLE"]
    edge_cases = {
        "public": allow("Everyone", "*", policies.USE),
        "public-same-account": allow("Everyone here", "*", policies.USE, Condition=caller),
        "public-via-service": allow("Everyone through S3", "*", policies.USE, Condition=through),
        "deleted-principals": allow("Gone", deleted, policies.USE),
        "not-principal-allow": except_one,
        "not-principal-deny": denial,
        "not-action": not_action,
        "missing-resource": without_resource,
        "stranger": allow("Vendor", root(policies.STRANGER_ACCOUNT), "kms:*"),
    }
    keys = {name: dublin.key(name, policy=document(base, statement)) for name, statement in edge_cases.items()}

    script, formula = HOSTILE_TEXTS["script"], HOSTILE_TEXTS["formula"]
    hostile = dublin.key("hostile", Description=script, tags={**HOSTILE_TEXTS, script: formula})
    dublin.key(LONG_ALIAS, Description=HOSTILE_TEXTS["right-to-left"], tags={"Owner": formula})
    dublin.key("--help_-_DROP/TABLE", Description=HOSTILE_TEXTS["long"], tags={"Name": HOSTILE_TEXTS["quotes"]})
    dublin.grant(hostile, f"arn:aws:iam::{account}:role/Admin", ["Decrypt"], Name="hostile_-/=cmd")
    hostile_secret = dublin.secret(
        "lab/=HYPERLINK", hostile, Description=script, Tags=[{"Key": "Note", "Value": HOSTILE_TEXTS["template"]}]
    )
    dublin.bucket("northwind-lab-hostile", "aws:kms", hostile)
    dublin.bucket("northwind-lab-alias", "aws:kms", "alias/hostile")
    dublin.bucket("northwind-lab-plain")
    dublin.database("experiments", encrypted=False, Engine="mysql")
    dublin.cache("experiments", None)
    experiments = [virginia.key(f"experiment-{number}", tags={"Experiment": str(number)}) for number in range(1, 7)]
    for name in ("notebook", "scratch", "api"):
        virginia.secret(f"lab/{name}")
    return {
        "public_key": keys["public"],
        "forgotten_key": experiments[0],
        "orphaned_key": keys["deleted-principals"],
        "stranger_key": keys["stranger"],
        "hostile_key": hostile,
        "hostile_secret": hostile_secret,
    }


def management(scope: AccountRegion) -> dict[str, str]:
    """The few resources of the management account."""
    virginia = scope.in_region("us-east-1")
    finance = virginia.key("finance", tags={"Owner": "finance"}, rotation_days=365)
    virginia.in_region("eu-west-1").key("finance-europe", tags={"Owner": "finance"})
    virginia.bucket("northwind-finance", "aws:kms", finance)
    virginia.secret("finance/erp", finance)
    virginia.secret("finance/bank", "alias/finance")
    return {"finance_key": finance}


def legacy(scope: AccountRegion) -> dict[str, str]:
    """An account that cannot be crawled: its resources must be reported as unknown, not as absent."""
    virginia = scope.in_region("us-east-1")
    hidden = virginia.key("mainframe", Description="Nobody remembers")
    virginia.key("tape-archive")
    virginia.bucket("northwind-legacy-tapes", "aws:kms", hidden)
    virginia.secret("legacy/mainframe", hidden)
    return {"hidden_key": hidden}


def _grants(scope: AccountRegion, key: str) -> None:
    """Create grants to the own account, to a service session, to services and to vendors, with and without constraints."""
    account, region = scope.account, scope.region
    worker = f"arn:aws:iam::{account}:role/Worker"
    volume = {"EncryptionContextSubset": {"aws:ebs:id": "vol-0f1e2d3c4b5a69788"}}
    table = {"EncryptionContextEquals": {"aws:dynamodb:tableName": "inventory", "aws:dynamodb:subscriberId": account}}
    instance = f"arn:aws:sts::{account}:assumed-role/aws:ec2-infrastructure/i-0a1b2c3d4e5f60718"
    full = ["Encrypt", "Decrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo", "CreateGrant", "DescribeKey"]
    scope.grant(key, worker, ["Decrypt"])
    scope.grant(
        key, worker, ["Encrypt", "Decrypt", "RetireGrant"], Name="nightly-batch", RetiringPrincipal=root(account)
    )
    scope.grant(key, instance, full, Constraints=volume, RetiringPrincipal=f"ec2.{region}.amazonaws.com")
    scope.grant(key, f"dynamodb.{region}.amazonaws.com", full, Constraints=table)
    scope.grant(key, root(policies.STRANGER_ACCOUNT), ["Decrypt", "DescribeKey"], Name="partner-pilot")
    scope.grant(key, f"arn:aws:iam::{policies.CHECKMARX_ACCOUNT}:role/Scanner", ["CreateGrant", "Decrypt"])


def _through(service: str) -> policies.Statement:
    return allow(f"{service} uses the key", {"Service": f"{service}.amazonaws.com"}, policies.USE)
