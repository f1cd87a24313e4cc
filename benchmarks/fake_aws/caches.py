"""Caches and their snapshots, in the shapes of ElastiCache."""

from __future__ import annotations

from functools import cached_property

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.entity_lifecycle import AccountRegion, Entity, ResourceFactory, Shape, tags, to_datetime
from benchmarks.fake_aws.presets import START


class Caches(ResourceFactory):
    """The caches of one account-region; each kind is generated at its first use."""

    def __init__(self, account_region: AccountRegion) -> None:
        super().__init__(account_region, "elasticache")
        self._tags: dict[str, list[dict[str, str]]] = {}

    @cached_property
    def replication_groups(self) -> list[Shape]:
        """The response of elasticache:DescribeReplicationGroups."""
        entries = []
        for item in self.items("replication group", assumed.CACHES):
            kind = item.draw.weighted((("none", 0.3), ("sse-elasticache", 0.3), ("sse-kms", 0.4)))
            group = {
                "ReplicationGroupId": f"group-{item.name}",
                "Description": "sessions",
                "Status": "available",
                "TransitEncryptionEnabled": True,
                "AtRestEncryptionEnabled": kind != "none",
                "StorageEncryptionType": kind,
                "ARN": f"{self._arn}replicationgroup:group-{item.name}",
                "ReplicationGroupCreateTime": to_datetime(item.created),
                "Engine": "valkey",
            }
            if kind == "sse-kms":
                group["KmsKeyId"] = self.key(item)
            entries.append(self._tagged(group, item))
        return entries

    @cached_property
    def cache_clusters(self) -> list[Shape]:
        """The response of elasticache:DescribeCacheClusters; never with a key."""
        return [
            self._tagged(
                {
                    "CacheClusterId": f"cluster-{item.name}",
                    "Engine": "memcached",
                    "EngineVersion": "1.6.22",
                    "CacheClusterStatus": "available",
                    "CacheClusterCreateTime": to_datetime(item.created),
                    "AtRestEncryptionEnabled": item.draw.chance(0.4),
                    "ARN": f"{self._arn}cluster:cluster-{item.name}",
                },
                item,
            )
            for item in self.items("cache cluster", (1, 0.9, 0, 50))
        ]

    @cached_property
    def serverless_caches(self) -> list[Shape]:
        """The response of elasticache:DescribeServerlessCaches."""
        entries = []
        for item in self.items("serverless cache", (1, 0.9, 0, 50)):
            cache = {
                "ServerlessCacheName": f"cache-{item.name}",
                "CreateTime": to_datetime(item.created),
                "Status": "available",
                "Engine": "valkey",
                "MajorEngineVersion": "8",
                "FullEngineVersion": "8.1",
                "ARN": f"{self._arn}serverlesscache:cache-{item.name}",
                "CacheUsageLimits": {"DataStorage": {"Maximum": 10, "Unit": "GB"}, "ECPUPerSecond": {"Maximum": 5000}},
                "SubnetIds": ["subnet-0a1b2c3d", "subnet-1a2b3c4d"],
            }
            if key := (self.key(item) if item.draw.chance(0.5) else None):
                cache["KmsKeyId"] = key
            entries.append(self._tagged(cache, item))
        return entries

    @cached_property
    def cache_snapshots(self) -> list[Shape]:
        """The response of elasticache:DescribeSnapshots."""
        entries = []
        for number, group in enumerate(self.replication_groups * 2):
            name = f"automatic.{group['ReplicationGroupId']}-{number}"
            taken = {"NodeGroupId": "0001", "CacheNodeId": "0001", "SnapshotCreateTime": to_datetime(START)}
            snapshot = {
                "SnapshotName": name,
                "ReplicationGroupId": group["ReplicationGroupId"],
                "SnapshotStatus": "available",
                "SnapshotSource": "automated",
                "Engine": "valkey",
                "NodeSnapshots": [taken],
                "ARN": f"{self._arn}snapshot:{name}",
            }
            if key := group.get("KmsKeyId"):
                snapshot["KmsKeyId"] = key
            self._tags[str(snapshot["ARN"])] = []
            entries.append(snapshot)
        return entries

    @cached_property
    def serverless_snapshots(self) -> list[Shape]:
        """The response of elasticache:DescribeServerlessCacheSnapshots."""
        entries = []
        for cache in self.serverless_caches:
            name = f"daily-{cache['ServerlessCacheName']}"
            snapshot = {
                "ServerlessCacheSnapshotName": name,
                "ARN": f"{self._arn}serverlesscachesnapshot:{name}",
                "SnapshotType": "automated",
                "Status": "available",
                "CreateTime": to_datetime(START),
                "ServerlessCacheConfiguration": {
                    "ServerlessCacheName": cache["ServerlessCacheName"],
                    "Engine": "valkey",
                },
            }
            if key := cache.get("KmsKeyId"):
                snapshot["KmsKeyId"] = key
            self._tags[str(snapshot["ARN"])] = []
            entries.append(snapshot)
        return entries

    def tags(self, arn: str) -> list[dict[str, str]] | None:
        """The tags in elasticache:ListTagsForResource; None for an unknown ARN."""
        if arn not in self._tags:
            # Generating the resources fills in their tags.
            _ = self.replication_groups, self.cache_clusters, self.cache_snapshots, self.serverless_snapshots
        return self._tags.get(arn)

    def _tagged(self, shape: Shape, item: Entity) -> Shape:
        self._tags[shape["ARN"]] = tags(item)
        return shape
