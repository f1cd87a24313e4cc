"""Secrets, in the shapes of Secrets Manager."""

from __future__ import annotations

from functools import cached_property

import orjson

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import OUTSIDE
from benchmarks.fake_aws.entity_lifecycle import AccountRegion, ResourceFactory, Shape, tags
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.seeded_random import Draw


def resource_policy(arn: str) -> str | None:
    """The resource policy of a secret; most have none."""
    draw = Draw("resource policy", arn)
    if not draw.chance(assumed.SECRETS_WITH_POLICY):
        return None
    reader = f"arn:aws:iam::{arn.split(':')[4]}:role/app-{draw.between(1, 40)}"
    statement = {"Effect": "Allow", "Principal": {"AWS": reader}, "Action": "secretsmanager:GetSecretValue"}
    return orjson.dumps({"Version": "2012-10-17", "Statement": [statement | {"Resource": "*"}]}).decode()


class Secrets(ResourceFactory):
    """The secrets of one account-region."""

    def __init__(self, account_region: AccountRegion) -> None:
        super().__init__(account_region, "secretsmanager")

    @cached_property
    def entries(self) -> list[Shape]:
        """The response of secretsmanager:ListSecrets with IncludePlannedDeletion."""
        secrets = []
        for item in self.items("secret", assumed.SECRETS):
            key = None if item.draw.chance(assumed.SECRETS_WITHOUT_KEY) else self.key(item)
            secret = self._secret(f"app/secret-{item.name}", item.created, key, tags(item))
            if item.draw.chance(0.02):
                secret["DeletedDate"] = START + 7 * DAY
            secrets.append(secret)
        return [*secrets, *self._edge_case_secrets()]

    def _secret(self, name: str, created: float, key: str | None, labels: list[dict[str, str]]) -> Shape:
        suffix = Draw(self._account_region.account_id, self._account_region.region, name).hexes(6)
        secret: Shape = {
            "ARN": f"{self._arn}secret:{name}-{suffix}",
            "Name": name,
            "CreatedDate": created,
            "LastChangedDate": created + DAY,
            "LastAccessedDate": START,
            "Tags": labels,
            "SecretVersionsToStages": {"0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0": ["AWSCURRENT"]},
        }
        if key is not None:
            secret["KmsKeyId"] = key
        return secret

    def _edge_case_secrets(self) -> list[Shape]:
        account_region = self._account_region
        if not account_region.has_edge_cases:
            return []
        region_prefix = f"arn:aws:kms:{account_region.region}:"
        arn_prefix = f"{region_prefix}{account_region.account_id}:"
        references = {
            "key-arn": f"{arn_prefix}key/{account_region.edge_case_key('rsa')}",
            "key-id": account_region.edge_case_key("disabled"),
            "alias-name": "alias/odd/crowded",
            "alias-arn": f"{arn_prefix}alias/odd/many-aliases-7",
            "to-be-deleted": f"{arn_prefix}key/{account_region.edge_case_key('to-be-deleted')}",
            "dangling-key": f"{arn_prefix}key/00000000-0000-4000-8000-000000000000",
            "dangling-alias": "alias/odd/there-is-none",
            "other-account": f"{region_prefix}{account_region.other}:key/00000000-0000-4000-8000-000000000001",
            "outside": f"{region_prefix}{OUTSIDE}:key/00000000-0000-4000-8000-000000000002",
            "no-such-region": f"arn:aws:kms:xx-nowhere-1:{account_region.account_id}:key/00000000-0000-4000-8000-000000000003",
            "aws-alias": "alias/aws/secretsmanager",
            "malformed": "not a key at all",
            **{f"sentinel-{word}": word for word in assumed.SENTINELS},
        }
        secrets = [self._secret(f"odd/{name}", START - 90 * DAY, key, []) for name, key in references.items()]
        pending_deletion = self._secret("odd/scheduled", START - 90 * DAY, None, []) | {"DeletedDate": START + 3 * DAY}
        replica = self._secret("odd/replica", START - 90 * DAY, None, []) | {"PrimaryRegion": "eu-north-1"}
        replicated = self._secret("odd/replicated", START - 90 * DAY, None, []) | {
            "PrimaryRegion": account_region.region
        }
        owned = self._secret("rds!db-0a1b2c3d", START - 90 * DAY, None, []) | {"OwningService": "rds"}
        return [*secrets, pending_deletion, replica, replicated, owned]
