"""Secrets, as Secrets Manager tells of them."""

from __future__ import annotations

from functools import cached_property

import orjson

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import OUTSIDE
from benchmarks.fake_aws.entity_lifecycle import Kinds, Place, Shape, tags
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


class Secrets(Kinds):
    """Of one account-region."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, "secretsmanager")

    @cached_property
    def listed(self) -> list[Shape]:
        """As secretsmanager:ListSecrets tells them with IncludePlannedDeletion."""
        found = []
        for item in self.items("secret", assumed.SECRETS):
            key = None if item.draw.chance(assumed.SECRETS_WITHOUT_KEY) else self.key(item)
            secret = self._secret(f"app/secret-{item.name}", item.created, key, tags(item))
            if item.draw.chance(0.02):
                secret["DeletedDate"] = START + 7 * DAY
            found.append(secret)
        return [*found, *self._odd_secrets()]

    def _secret(self, name: str, created: float, key: str | None, labels: list[dict[str, str]]) -> Shape:
        suffix = Draw(self._place.account_id, self._place.region, name).hexes(6)
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

    def _odd_secrets(self) -> list[Shape]:
        place = self._place
        if not place.odd:
            return []
        here = f"arn:aws:kms:{place.region}:{place.account_id}:"
        named = {
            "key-arn": f"{here}key/{place.odd_key('rsa')}",
            "key-id": place.odd_key("disabled"),
            "alias-name": "alias/odd/crowded",
            "alias-arn": f"{here}alias/odd/many-aliases-7",
            "to-be-deleted": f"{here}key/{place.odd_key('to-be-deleted')}",
            "dangling-key": f"{here}key/00000000-0000-4000-8000-000000000000",
            "dangling-alias": "alias/odd/there-is-none",
            "other-account": f"arn:aws:kms:{place.region}:{place.other}:key/00000000-0000-4000-8000-000000000001",
            "outside": f"arn:aws:kms:{place.region}:{OUTSIDE}:key/00000000-0000-4000-8000-000000000002",
            "no-such-region": f"arn:aws:kms:xx-nowhere-1:{place.account_id}:key/00000000-0000-4000-8000-000000000003",
            "aws-alias": "alias/aws/secretsmanager",
            "malformed": "not a key at all",
            **{f"sentinel-{word}": word for word in assumed.SENTINELS},
        }
        found = [self._secret(f"odd/{name}", START - 90 * DAY, key, []) for name, key in named.items()]
        leaving = self._secret("odd/scheduled", START - 90 * DAY, None, []) | {"DeletedDate": START + 3 * DAY}
        replica = self._secret("odd/replica", START - 90 * DAY, None, []) | {"PrimaryRegion": "eu-north-1"}
        owned = self._secret("rds!db-0a1b2c3d", START - 90 * DAY, None, []) | {"OwningService": "rds"}
        return [*found, leaving, replica, owned]
