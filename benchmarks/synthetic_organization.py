"""A large synthetic organization in any run, computed from numbers: 1 % of the facts differ from the previous run."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import lru_cache

from models.store.scd2_merge import Batch
from models.tables.keys import Key, KeyGrant, KeyMetadata, KeyPolicy, KeyRotation, Tag
from models.versioned import VersionedTable

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TABLES: tuple[type[VersionedTable], ...] = (Key, KeyMetadata, KeyPolicy, KeyRotation, KeyGrant, Tag)
SCOPE = 1000
"""Keys of one account in one region."""
GRANTS = (43, 53, 59, 61)
"""One salt per grant of a key. Numbers coprime to CHANGE_INTERVAL spread the changes over keys and runs."""
TAGS = {"owner": 97, "cost-center": 103}
FACTS_PER_KEY = 4 + len(GRANTS) + len(TAGS)
"""Facts per key: its existence, metadata, policy and rotation, plus grants and tags."""
KEYS_PER_POLICY = 5
"""Number of keys with the same policy."""
CHANGE_INTERVAL = 100
"""In each run, one in this number of facts changes."""
KEY_LIFETIME = 2000
"""In each run, one in this number of keys is replaced by a new key."""
_NOT_APPLICABLE = dict.fromkeys(
    (
        *("deletion_date", "pending_window_days", "material_expires_at", "expiration_model", "multi_region_type"),
        *(
            "primary_arn",
            "replica_arns",
            "custom_key_store_id",
            "cloud_hsm_cluster_id",
            "xks_key_id",
            "key_material_id",
        ),
    )
)


@dataclass(slots=True)
class SyntheticOrganization:
    """Generates the facts. ``changed`` counts those that differ from the previous run; a replacement counts once."""

    keys: int
    changed: int = 0

    def scope(self, number: int, run: int) -> Batch:
        """The facts of one scope in a run (the first run is 1)."""
        batch = Batch()
        account, region = f"{111_000_000_000 + number // 2 * 7919}", ("eu-west-1", "us-east-1")[number % 2]
        batch.mark_complete(Key, account, region)
        for key in range(number * SCOPE, min((number + 1) * SCOPE, self.keys)):
            self._key(batch, key, run, account, region)
        return batch

    def _key(self, batch: Batch, key: int, run: int, account: str, region: str) -> None:
        generation = _version(key, 7919, KEY_LIFETIME, run)
        is_new = _changes(key, 7919, KEY_LIFETIME, run)
        self.changed += FACTS_PER_KEY if is_new else 0
        key_id = f"{key:08x}-{generation:04x}-4000-8000-{key * 2654435761 % 2**48:012x}"
        arn = f"arn:aws:kms:{region}:{account}:key/{key_id}"

        def version(salt: int) -> int:
            self.changed += not is_new and _changes(key, salt, CHANGE_INTERVAL, run)
            return _version(key, salt, CHANGE_INTERVAL, run)

        batch.add(Key, key_arn=arn, key_id=key_id, account_id=account, region=region)
        batch.add(
            KeyMetadata,
            **_NOT_APPLICABLE,
            key_arn=arn,
            manager="CUSTOMER",
            state="Enabled",
            enabled=True,
            description=f"Data of service {key % 977}, revision {version(31)}",
            key_usage="ENCRYPT_DECRYPT",
            key_spec="SYMMETRIC_DEFAULT",
            origin="AWS_KMS",
            created_at=START - dt.timedelta(minutes=key),
            multi_region=False,
            algorithms='{"encryption":["SYMMETRIC_DEFAULT"]}',
        )
        policy = batch.document(_policy(account, key // KEYS_PER_POLICY, version(37)))
        batch.add(KeyPolicy, key_arn=arn, policy_hash=policy)
        batch.add(
            KeyRotation,
            key_arn=arn,
            status="enabled",
            reason=None,
            period_days=365 - version(41),
            next_rotation_at=START + dt.timedelta(days=200 + key % 100),
            on_demand_started_at=None,
        )
        for number, salt in enumerate(GRANTS):
            # Grants are immutable: a change retires the grant and creates another one.
            grant_version = version(salt)
            batch.add(
                KeyGrant,
                key_arn=arn,
                grant_id=f"{key:032x}{number:016x}{grant_version:016x}",
                name=None,
                grantee_principal=f"arn:aws:iam::{account}:role/service-{key % 977}-{number}",
                grantee_service_principal=None,
                retiring_principal=None,
                retiring_service_principal=None,
                issuing_account=f"arn:aws:iam::{account}:root",
                operations='["CreateGrant","Decrypt","DescribeKey","GenerateDataKeyWithoutPlaintext"]',
                constraints='{"EncryptionContextSubset":{"aws:ebs:id":"vol-%017x"}}' % (key * len(GRANTS) + number),
                created_at=START + dt.timedelta(days=grant_version),
            )
        batch.mark_complete(KeyGrant, arn)
        for tag, salt in TAGS.items():
            batch.add(Tag, resource_arn=arn, tag_key=tag, tag_value=f"team-{key % 311}-{version(salt)}")
        batch.mark_complete(Tag, arn)


@lru_cache(maxsize=64)
def _policy(account: str, number: int, version: int) -> str:
    roles = [f"arn:aws:iam::{account}:role/app-{number}-{n}-{version}" for n in range(3)]
    use = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
    statements = [
        {"Sid": "Root", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*"},
        {"Sid": "Use", "Effect": "Allow", "Principal": {"AWS": roles}, "Action": use},
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": [n | {"Resource": "*"} for n in statements]})


def _version(key: int, salt: int, every: int, run: int) -> int:
    """The number of changes of a fact up to a run; the run of the first change depends on key and salt."""
    return (run - 2 - salt * (key + 1) % every) // every + 1


def _changes(key: int, salt: int, every: int, run: int) -> bool:
    return run > 1 and (run - 2 - salt * (key + 1)) % every == 0
