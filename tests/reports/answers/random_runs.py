"""Nights of an organization in which anything may happen, drawn from a seed."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from models.tables import (
    Account,
    Alias,
    Gap,
    Key,
    KeyGrant,
    KeyMetadata,
    KeyRotation,
    KeyRotationEvent,
    Resource,
    Tag,
)
from tests.reports.ledger_builder import FIRST_NIGHT, World, root_statement

ACCOUNTS = {"111122223333": "Shop", "444455556666": "Data", "000123456789": "Payments"}
REGIONS = ("eu-west-1", "us-east-1")
OUTSIDER = "754581900792"
ACTIONS = ("GetKeyPolicy", "ListGrants", "ListResourceTags", "GetKeyRotationStatus", "DescribeKey", "ListKeyRotations")


class Nights:
    """Draws what happens on each night, and keeps the facts consistent as AWS would."""

    def __init__(self, url: str, seed: int) -> None:
        self.world = World(url)
        self.draw = random.Random(seed)  # noqa: S311 - a made-up organization, no secret
        self.count = 0
        for account_id, name in list(ACCOUNTS.items())[:2]:
            self.world.account(account_id, name, *REGIONS)
            for region in REGIONS:
                for _ in range(4):
                    self._key(account_id, region)
        for _ in range(12):
            self._resource()

    def pass_one(self) -> None:
        """Let about a dozen things happen."""
        if self.world.nights == 2:
            self.world.account("000123456789", ACCOUNTS["000123456789"], REGIONS[0])
            self._key("000123456789", REGIONS[0])
        steps = (
            self._key,
            self._gone,
            self._state,
            self._describe,
            self._rotate,
            self._policy,
            self._alias,
            self._alias_gone,
            self._grant,
            self._grant_gone,
            self._tag,
            self._tag_gone,
            self._resource,
            self._resource_gone,
            self._rekey,
            self._gap,
            self._gap_closed,
            self._outcome,
        )
        for step in self.draw.choices(steps, k=14):
            step()

    def keys(self) -> list[str]:
        """The keys there are."""
        return [natural_key[0] for natural_key in self.world.facts.get(Key, {})]

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _key(self, account_id: str = "", region: str = "") -> None:
        account_id = account_id or self.draw.choice(list(ACCOUNTS)[:2])
        region = region or self.draw.choice(REGIONS)
        number = self._next()
        key = self.world.key(
            account_id,
            region,
            f"00000000-0000-4000-8000-{number:012d}",
            rotation=self.draw.choice(("on", "off")),
            description=f"key {number}",
        )
        if self.draw.random() < 0.7:
            self.world.alias(f"alias/name-{number}", key)
        self.world.tag(key, Owner=self.draw.choice("abc"))
        if self.draw.random() < 0.5:
            self.world.grant(key, f"{number:064x}", grantee_principal=f"arn:aws:iam::{account_id}:role/app")

    def _gone(self) -> None:
        key = self.draw.choice(self.keys())
        self.world.remove(Key, key)
        for natural_key, row in list(self.world.facts.get(Alias, {}).items()):
            if row["target_key_arn"] == key:
                del self.world.facts[Alias][natural_key]
        for gap in list(self.world.facts.get(Gap, {})):
            if gap[4] == key:
                del self.world.facts[Gap][gap]

    def _state(self) -> None:
        state = self.draw.choice(("Enabled", "Disabled", "PendingDeletion"))
        date = FIRST_NIGHT + dt.timedelta(days=self.draw.randint(10, 30)) if state == "PendingDeletion" else None
        self._change(KeyMetadata, state=state, enabled=state == "Enabled", deletion_date=date)

    def _describe(self) -> None:
        self._change(KeyMetadata, description=f"description {self._next()}", key_material_id=f"{self._next():064x}")

    def _rotate(self) -> None:
        self._change(KeyRotation, status=self.draw.choice(("on", "off")), period_days=self.draw.choice((90, 365, None)))
        at = FIRST_NIGHT + dt.timedelta(days=self.world.nights, hours=-2)
        self.world.add(
            KeyRotationEvent, key_arn=self.draw.choice(self.keys()), rotated_at=at, rotation_type="ON_DEMAND"
        )

    def _policy(self) -> None:
        key = self.draw.choice(self.keys())
        statements: list[dict[str, Any]] = [root_statement(key.split(":")[4])]
        statements += (
            {
                "Sid": self.draw.choice(("App", "Vendor")),
                "Effect": self.draw.choice(("Allow", "Deny")),
                "Principal": {"AWS": self.draw.choice((OUTSIDER, *ACCOUNTS))},
                "Action": self.draw.choice(("kms:Decrypt", ["kms:Decrypt", "kms:Encrypt"])),
                "Resource": "*",
            }
            for _ in range(self.draw.randint(0, 2))
        )
        self.world.policy(key, statements)

    def _alias(self) -> None:
        key = self.draw.choice(self.keys())
        self.world.alias(f"alias/{self.draw.choice(('one', 'two', 'three'))}", key)

    def _alias_gone(self) -> None:
        self._drop(Alias)

    def _grant(self) -> None:
        key = self.draw.choice(self.keys())
        grantee = f"arn:aws:iam::{self.draw.choice((OUTSIDER, *ACCOUNTS))}:role/r"
        operations = self.draw.choice(('["Decrypt"]', '["Decrypt","Encrypt"]'))
        self.world.grant(key, f"{self.draw.randint(1, 3):064x}", grantee_principal=grantee, operations=operations)

    def _grant_gone(self) -> None:
        self._drop(KeyGrant)

    def _tag(self) -> None:
        arn = self.draw.choice([*self.keys(), *(natural_key[0] for natural_key in self.world.facts[Resource])])
        self.world.tag(arn, **{self.draw.choice(("Owner", "Team")): self.draw.choice("abc")})

    def _tag_gone(self) -> None:
        self._drop(Tag)

    def _resource(self) -> None:
        account_id, region = self.draw.choice(list(ACCOUNTS)[:2]), self.draw.choice(REGIONS)
        make = self.draw.choice((self.world.secret, self.world.database))
        self._use(make(account_id, region, f"thing-{self._next()}"))

    def _resource_gone(self) -> None:
        arn = self.draw.choice([natural_key[0] for natural_key in self.world.facts[Resource]])
        self.world.remove(Resource, arn)

    def _rekey(self) -> None:
        self._use(self.draw.choice([natural_key[0] for natural_key in self.world.facts[Resource]]))

    def _use(self, arn: str) -> None:
        key_class = self.draw.choice(("customer", "customer", "customer", "none", "dangling", "unknown", "aws_owned"))
        key = self.draw.choice(self.keys()) if key_class in {"customer", "dangling"} else None
        self.world.uses(arn, key, key_class)

    def _gap(self) -> None:
        key = self.draw.choice(self.keys())
        account_id, region = key.split(":")[4], key.split(":")[3]
        cause = self.draw.choice(("key_policy", "throttled"))
        self.world.gap(account_id, region, f"kms:{self.draw.choice(ACTIONS)}", key, cause)

    def _gap_closed(self) -> None:
        self._drop(Gap)

    def _outcome(self) -> None:
        scope = self.draw.choice([scope for scope in self.world.outcomes if scope[1] in REGIONS])
        failed = self.world.outcomes[scope][0] != "failed"
        self.world.outcomes[scope] = ("failed", "the role does not exist") if failed else ("partial", None)

    def _change(self, model: type[Any], **values: Any) -> None:
        found = list(self.world.facts.get(model, {}))
        if found:
            self.world.change(model, *self.draw.choice(found), **values)

    def _drop(self, model: type[Any]) -> None:
        found = list(self.world.facts.get(model, {}))
        if found and model is not Account:
            del self.world.facts[model][self.draw.choice(found)]
