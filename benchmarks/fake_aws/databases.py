"""Databases and their backups, in the shapes of RDS."""

from __future__ import annotations

import datetime as dt
from functools import cached_property

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.entity_lifecycle import AccountRegion, Entity, ResourceFactory, Shape, tags, to_datetime
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.seeded_random import Draw


class Databases(ResourceFactory):
    """The databases of one account-region; each kind is generated at its first use."""

    def __init__(self, account_region: AccountRegion) -> None:
        super().__init__(account_region, "rds")

    @cached_property
    def instances(self) -> list[Shape]:
        """The response of rds:DescribeDBInstances."""
        return [
            self._instance(item) for item in self.items("instance", assumed.DATABASES)
        ] + self._edge_case_instances()

    @cached_property
    def clusters(self) -> list[Shape]:
        """The response of rds:DescribeDBClusters."""
        clusters = [self._cluster(item) for item in self.items("cluster", (1, 0.9, 0, 50))]
        if self._account_region.has_edge_cases:
            template = Entity("odd", START - 200 * DAY, 0, 0, Draw("odd cluster"))
            # The default since February 2026: encrypted by RDS, without a key, and with the old flag false.
            clusters += [self._cluster(template, name="sse-rds") | {"StorageEncrypted": False}]
            clusters[-1].pop("KmsKeyId", None)
            clusters[-1]["StorageEncryptionType"] = "sse-rds"
        return clusters

    @cached_property
    def snapshots(self) -> list[Shape]:
        """The response of rds:DescribeDBSnapshots: one manual and several automated snapshots of each instance."""
        return [self._snapshot(instance, day) for instance in self.instances for day in range(self._days(instance))]

    @cached_property
    def cluster_snapshots(self) -> list[Shape]:
        """The response of rds:DescribeDBClusterSnapshots."""
        return [
            {
                "DBClusterSnapshotIdentifier": f"rds:{cluster['DBClusterIdentifier']}-{day}",
                "DBClusterIdentifier": cluster["DBClusterIdentifier"],
                "SnapshotCreateTime": cluster["ClusterCreateTime"] + dt.timedelta(days=day),
                "Engine": cluster["Engine"],
                "Status": "available",
                "SnapshotType": "automated",
                "DBClusterSnapshotArn": f"{self._arn}cluster-snapshot:rds:{cluster['DBClusterIdentifier']}-{day}",
                "TagList": [],
                **_encryption(cluster),
            }
            for cluster in self.clusters
            for day in range(2)
        ]

    @cached_property
    def instance_backups(self) -> list[Shape]:
        """The response of rds:DescribeDBInstanceAutomatedBackups; only copies from other regions have an ARN."""
        clusters = []
        for number, instance in enumerate(self.instances):
            backup = {
                "DBInstanceArn": instance["DBInstanceArn"],
                "DbiResourceId": instance["DbiResourceId"],
                "Region": self._account_region.region,
                "DBInstanceIdentifier": instance["DBInstanceIdentifier"],
                "Status": "active",
                "Engine": instance["Engine"],
                "TagList": [],
                **_encryption(instance, flag="Encrypted"),
            }
            if number % 5 == 0:
                backup["DBInstanceAutomatedBackupsArn"] = f"{self._arn}auto-backup:ab-{number:04d}"
            clusters.append(backup)
        return clusters

    @cached_property
    def cluster_backups(self) -> list[Shape]:
        """The response of rds:DescribeDBClusterAutomatedBackups."""
        return [
            {
                "DBClusterAutomatedBackupsArn": f"{self._arn}cluster-auto-backup:{cluster['DBClusterIdentifier']}",
                "DBClusterArn": cluster["DBClusterArn"],
                "DBClusterIdentifier": cluster["DBClusterIdentifier"],
                "Region": self._account_region.region,
                "Status": "active",
                "Engine": cluster["Engine"],
                "TagList": [],
                **_encryption(cluster),
            }
            for cluster in self.clusters
        ]

    def _instance(self, item: Entity, name: str = "") -> Shape:
        engine = item.draw.weighted((("postgres", 0.5), ("mysql", 0.35), ("docdb", 0.1), ("neptune", 0.05)))
        encrypted = item.draw.chance(0.85)
        identifier = name or f"db-{item.name}"
        instance: Shape = {
            "DBInstanceIdentifier": identifier,
            "DBInstanceClass": "db.r6g.large",
            "Engine": engine,
            "EngineVersion": "16.4",
            "DBInstanceStatus": "available",
            "InstanceCreateTime": to_datetime(item.created),
            "MultiAZ": item.draw.chance(0.5),
            "StorageEncrypted": encrypted,
            "StorageEncryptionType": "sse-kms" if encrypted else "none",
            "DbiResourceId": f"db-{item.draw.hexes(26).upper()}",
            "DBInstanceArn": f"{self._arn}db:{identifier}",
            "PerformanceInsightsEnabled": item.draw.chance(0.5),
            "TagList": tags(item),
            "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-0a1b2c3d", "Status": "active"}],
        }
        if encrypted and (key := self.key(item)):
            instance["KmsKeyId"] = key
        if instance["PerformanceInsightsEnabled"] and item.draw.chance(0.4) and "KmsKeyId" in instance:
            instance["PerformanceInsightsKMSKeyId"] = instance["KmsKeyId"]
        if item.draw.chance(0.2):
            scope = f"{self._account_region.region}:{self._account_region.account_id}"
            secret = f"arn:aws:secretsmanager:{scope}:secret:rds!{identifier}"
            instance["MasterUserSecret"] = {"SecretArn": secret, "SecretStatus": "active"}
        return instance

    def _edge_case_instances(self) -> list[Shape]:
        if not self._account_region.has_edge_cases:
            return []
        template = Entity("odd", START - 200 * DAY, 0, 0, Draw("odd instance"))
        account_region = self._account_region
        key_id = account_region.edge_case_key("disabled")
        key = f"arn:aws:kms:{account_region.region}:{account_region.account_id}:key/{key_id}"
        recoverable = "inaccessible-encryption-credentials-recoverable"
        return [
            self._instance(template, "lost")
            | {"DBInstanceStatus": "inaccessible-encryption-credentials", "KmsKeyId": key},
            self._instance(template, "losing") | {"DBInstanceStatus": recoverable, "KmsKeyId": key},
            {
                name: value
                for name, value in self._instance(template, "before-the-type").items()
                if name != "StorageEncryptionType"
            },
        ]

    def _cluster(self, item: Entity, name: str = "") -> Shape:
        identifier = name or f"cluster-{item.name}"
        cluster: Shape = {
            "DBClusterIdentifier": identifier,
            "Status": "available",
            "Engine": item.draw.weighted((("aurora-postgresql", 0.6), ("aurora-mysql", 0.3), ("docdb", 0.1))),
            "EngineVersion": "16.4",
            "StorageEncrypted": True,
            "StorageEncryptionType": "sse-kms",
            "DBClusterArn": f"{self._arn}cluster:{identifier}",
            "DbClusterResourceId": f"cluster-{item.draw.hexes(26).upper()}",
            "ClusterCreateTime": to_datetime(item.created),
            "AvailabilityZones": [f"{self._account_region.region}a", f"{self._account_region.region}b"],
            "TagList": tags(item),
        }
        if key := self.key(item):
            cluster["KmsKeyId"] = key
        return cluster

    def _days(self, instance: Shape) -> int:
        low, high = assumed.SNAPSHOTS_A_DATABASE
        scale = min(1.0, self._account_region.parameters.resources)
        return max(
            1, int(self._account_region.draw("days", instance["DBInstanceIdentifier"]).between(low, high) * scale)
        )

    def _snapshot(self, instance: Shape, day: int) -> Shape:
        kind, prefix = ("manual", "") if day == 0 else ("automated", "rds:")
        name = f"{prefix}{instance['DBInstanceIdentifier']}-{day}"
        return {
            "DBSnapshotIdentifier": name,
            "DBInstanceIdentifier": instance["DBInstanceIdentifier"],
            "SnapshotCreateTime": to_datetime(START - day * DAY),
            "Engine": instance["Engine"],
            "Status": "available",
            "PercentProgress": 100,
            "SnapshotType": kind,
            "DBSnapshotArn": f"{self._arn}snapshot:{name}",
            "TagList": [],
            **_encryption(instance, flag="Encrypted"),
        }


def _encryption(source: Shape, flag: str = "StorageEncrypted") -> Shape:
    """The encryption members of a backup: those of its source database."""
    clusters = {flag: source["StorageEncrypted"]}
    return clusters | {name: source[name] for name in ("StorageEncryptionType", "KmsKeyId") if name in source}
