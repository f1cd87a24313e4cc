"""Databases and their backups, as RDS tells of them."""

from __future__ import annotations

import datetime as dt
from functools import cached_property

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.entity_lifecycle import Item, Kinds, Place, Shape, tags, when
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.seeded_random import Draw


class Databases(Kinds):
    """Of one account-region; each kind is made when it is first asked for."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, "rds")

    @cached_property
    def instances(self) -> list[Shape]:
        """As rds:DescribeDBInstances tells them."""
        return [self._instance(item) for item in self.items("instance", assumed.DATABASES)] + self._odd_instances()

    @cached_property
    def clusters(self) -> list[Shape]:
        """As rds:DescribeDBClusters tells them."""
        found = [self._cluster(item) for item in self.items("cluster", (1, 0.9, 0, 50))]
        if self._place.odd:
            plain = Item("odd", START - 200 * DAY, 0, 0, Draw("odd cluster"))
            # The default since February 2026: encrypted by RDS itself, no key, and the old flag says no.
            found += [self._cluster(plain, name="sse-rds") | {"StorageEncrypted": False}]
            found[-1].pop("KmsKeyId", None)
            found[-1]["StorageEncryptionType"] = "sse-rds"
        return found

    @cached_property
    def snapshots(self) -> list[Shape]:
        """As rds:DescribeDBSnapshots tells them: days of automated ones for each instance, one kept by hand."""
        return [self._snapshot(instance, day) for instance in self.instances for day in range(self._days(instance))]

    @cached_property
    def cluster_snapshots(self) -> list[Shape]:
        """As rds:DescribeDBClusterSnapshots tells them."""
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
        """As rds:DescribeDBInstanceAutomatedBackups tells them; only copies from other regions have an ARN of their own."""
        found = []
        for number, instance in enumerate(self.instances):
            backup = {
                "DBInstanceArn": instance["DBInstanceArn"],
                "DbiResourceId": instance["DbiResourceId"],
                "Region": self._place.region,
                "DBInstanceIdentifier": instance["DBInstanceIdentifier"],
                "Status": "active",
                "Engine": instance["Engine"],
                "TagList": [],
                **_encryption(instance, flag="Encrypted"),
            }
            if number % 5 == 0:
                backup["DBInstanceAutomatedBackupsArn"] = f"{self._arn}auto-backup:ab-{number:04d}"
            found.append(backup)
        return found

    @cached_property
    def cluster_backups(self) -> list[Shape]:
        """As rds:DescribeDBClusterAutomatedBackups tells them."""
        return [
            {
                "DBClusterAutomatedBackupsArn": f"{self._arn}cluster-auto-backup:{cluster['DBClusterIdentifier']}",
                "DBClusterArn": cluster["DBClusterArn"],
                "DBClusterIdentifier": cluster["DBClusterIdentifier"],
                "Region": self._place.region,
                "Status": "active",
                "Engine": cluster["Engine"],
                "TagList": [],
                **_encryption(cluster),
            }
            for cluster in self.clusters
        ]

    def _instance(self, item: Item, name: str = "") -> Shape:
        engine = item.draw.weighted((("postgres", 0.5), ("mysql", 0.35), ("docdb", 0.1), ("neptune", 0.05)))
        encrypted = item.draw.chance(0.85)
        identifier = name or f"db-{item.name}"
        instance: Shape = {
            "DBInstanceIdentifier": identifier,
            "DBInstanceClass": "db.r6g.large",
            "Engine": engine,
            "EngineVersion": "16.4",
            "DBInstanceStatus": "available",
            "InstanceCreateTime": when(item.created),
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
            secret = f"arn:aws:secretsmanager:{self._place.region}:{self._place.account_id}:secret:rds!{identifier}"
            instance["MasterUserSecret"] = {"SecretArn": secret, "SecretStatus": "active"}
        return instance

    def _odd_instances(self) -> list[Shape]:
        if not self._place.odd:
            return []
        plain = Item("odd", START - 200 * DAY, 0, 0, Draw("odd instance"))
        key = f"arn:aws:kms:{self._place.region}:{self._place.account_id}:key/{self._place.odd_key('disabled')}"
        recoverable = "inaccessible-encryption-credentials-recoverable"
        return [
            self._instance(plain, "lost")
            | {"DBInstanceStatus": "inaccessible-encryption-credentials", "KmsKeyId": key},
            self._instance(plain, "losing") | {"DBInstanceStatus": recoverable, "KmsKeyId": key},
            {
                name: value
                for name, value in self._instance(plain, "before-the-type").items()
                if name != "StorageEncryptionType"
            },
        ]

    def _cluster(self, item: Item, name: str = "") -> Shape:
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
            "ClusterCreateTime": when(item.created),
            "AvailabilityZones": [f"{self._place.region}a", f"{self._place.region}b"],
            "TagList": tags(item),
        }
        if key := self.key(item):
            cluster["KmsKeyId"] = key
        return cluster

    def _days(self, instance: Shape) -> int:
        low, high = assumed.SNAPSHOTS_A_DATABASE
        scale = min(1.0, self._place.parameters.resources)
        return max(1, int(self._place.draw("days", instance["DBInstanceIdentifier"]).between(low, high) * scale))

    def _snapshot(self, instance: Shape, day: int) -> Shape:
        kind, prefix = ("manual", "") if day == 0 else ("automated", "rds:")
        name = f"{prefix}{instance['DBInstanceIdentifier']}-{day}"
        return {
            "DBSnapshotIdentifier": name,
            "DBInstanceIdentifier": instance["DBInstanceIdentifier"],
            "SnapshotCreateTime": when(START - day * DAY),
            "Engine": instance["Engine"],
            "Status": "available",
            "PercentProgress": 100,
            "SnapshotType": kind,
            "DBSnapshotArn": f"{self._arn}snapshot:{name}",
            "TagList": [],
            **_encryption(instance, flag="Encrypted"),
        }


def _encryption(source: Shape, flag: str = "StorageEncrypted") -> Shape:
    """What a backup says of its encryption: as the database it was taken from."""
    found = {flag: source["StorageEncrypted"]}
    return found | {name: source[name] for name in ("StorageEncryptionType", "KmsKeyId") if name in source}
