"""Runs of an organization with random changes, drawn from a seed."""

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
from reports.rules.testing.builders import root_statement
from tests.reports.ledger_builder import FIRST_RUN, LedgerBuilder

ACCOUNTS = {"111122223333": "Shop", "444455556666": "Data", "000123456789": "Payments"}
REGIONS = ("eu-west-1", "us-east-1")
EXTERNAL = "754581900792"
ACTIONS = ("GetKeyPolicy", "ListGrants", "ListResourceTags", "GetKeyRotationStatus", "DescribeKey", "ListKeyRotations")


class RandomRuns:
    """Draws the changes before each run, and keeps the facts consistent as AWS does."""

    def __init__(self, url: str, seed: int) -> None:
        self.world = LedgerBuilder(url)
        self.random = random.Random(seed)  # noqa: S311 - test data, not a secret
        self.count = 0
        for account_id, name in list(ACCOUNTS.items())[:2]:
            self.world.account(account_id, name, *REGIONS)
            for region in REGIONS:
                for _ in range(4):
                    self._add_key(account_id, region)
        for _ in range(12):
            self._add_resource()

    def apply_changes(self) -> None:
        """Apply about a dozen random changes."""
        if self.world.runs == 2:
            self.world.account("000123456789", ACCOUNTS["000123456789"], REGIONS[0])
            self._add_key("000123456789", REGIONS[0])
        steps = (
            self._add_key,
            self._remove_key,
            self._set_state,
            self._change_description,
            self._rotate,
            self._set_policy,
            self._set_alias,
            self._remove_alias,
            self._add_grant,
            self._remove_grant,
            self._set_tag,
            self._remove_tag,
            self._add_resource,
            self._remove_resource,
            self._rekey,
            self._add_gap,
            self._close_gap,
            self._toggle_outcome,
        )
        for step in self.random.choices(steps, k=14):
            step()

    def keys(self) -> list[str]:
        """The ARNs of the existing keys."""
        return [natural_key[0] for natural_key in self.world.facts.get(Key, {})]

    def _next(self) -> int:
        self.count += 1
        return self.count

    def _add_key(self, account_id: str = "", region: str = "") -> None:
        account_id = account_id or self.random.choice(list(ACCOUNTS)[:2])
        region = region or self.random.choice(REGIONS)
        number = self._next()
        key = self.world.key(
            account_id,
            region,
            f"00000000-0000-4000-8000-{number:012d}",
            rotation=self.random.choice(("enabled", "disabled")),
            description=f"key {number}",
        )
        if self.random.random() < 0.7:
            self.world.alias(f"alias/name-{number}", key)
        self.world.tag(key, Owner=self.random.choice("abc"))
        if self.random.random() < 0.5:
            self.world.grant(key, f"{number:064x}", grantee_principal=f"arn:aws:iam::{account_id}:role/app")

    def _remove_key(self) -> None:
        key = self.random.choice(self.keys())
        self.world.remove(Key, key)
        for natural_key, row in list(self.world.facts.get(Alias, {}).items()):
            if row["target_key_arn"] == key:
                del self.world.facts[Alias][natural_key]
        for gap in list(self.world.facts.get(Gap, {})):
            if gap[4] == key:
                del self.world.facts[Gap][gap]

    def _set_state(self) -> None:
        state = self.random.choice(("Enabled", "Disabled", "PendingDeletion"))
        date = FIRST_RUN + dt.timedelta(days=self.random.randint(10, 30)) if state == "PendingDeletion" else None
        self._change(KeyMetadata, state=state, enabled=state == "Enabled", deletion_date=date)

    def _change_description(self) -> None:
        self._change(KeyMetadata, description=f"description {self._next()}", key_material_id=f"{self._next():064x}")

    def _rotate(self) -> None:
        self._change(
            KeyRotation,
            status=self.random.choice(("enabled", "disabled")),
            period_days=self.random.choice((90, 365, None)),
        )
        at = FIRST_RUN + dt.timedelta(days=self.world.runs, hours=-2)
        self.world.add(
            KeyRotationEvent, key_arn=self.random.choice(self.keys()), rotated_at=at, rotation_type="ON_DEMAND"
        )

    def _set_policy(self) -> None:
        key = self.random.choice(self.keys())
        statements: list[dict[str, Any]] = [root_statement(key.split(":")[4])]
        statements += (
            {
                "Sid": self.random.choice(("App", "Vendor")),
                "Effect": self.random.choice(("Allow", "Deny")),
                "Principal": {"AWS": self.random.choice((EXTERNAL, *ACCOUNTS))},
                "Action": self.random.choice(("kms:Decrypt", ["kms:Decrypt", "kms:Encrypt"])),
                "Resource": "*",
            }
            for _ in range(self.random.randint(0, 2))
        )
        self.world.policy(key, statements)

    def _set_alias(self) -> None:
        key = self.random.choice(self.keys())
        self.world.alias(f"alias/{self.random.choice(('one', 'two', 'three'))}", key)

    def _remove_alias(self) -> None:
        self._drop(Alias)

    def _add_grant(self) -> None:
        key = self.random.choice(self.keys())
        grantee = f"arn:aws:iam::{self.random.choice((EXTERNAL, *ACCOUNTS))}:role/r"
        operations = self.random.choice(('["Decrypt"]', '["Decrypt","Encrypt"]'))
        self.world.grant(key, f"{self.random.randint(1, 3):064x}", grantee_principal=grantee, operations=operations)

    def _remove_grant(self) -> None:
        self._drop(KeyGrant)

    def _set_tag(self) -> None:
        arn = self.random.choice([*self.keys(), *(natural_key[0] for natural_key in self.world.facts[Resource])])
        self.world.tag(arn, **{self.random.choice(("Owner", "Team")): self.random.choice("abc")})

    def _remove_tag(self) -> None:
        self._drop(Tag)

    def _add_resource(self) -> None:
        account_id, region = self.random.choice(list(ACCOUNTS)[:2]), self.random.choice(REGIONS)
        make = self.random.choice((self.world.secret, self.world.database))
        self._use(make(account_id, region, f"resource-{self._next()}"))

    def _remove_resource(self) -> None:
        arn = self.random.choice([natural_key[0] for natural_key in self.world.facts[Resource]])
        self.world.remove(Resource, arn)

    def _rekey(self) -> None:
        self._use(self.random.choice([natural_key[0] for natural_key in self.world.facts[Resource]]))

    def _use(self, arn: str) -> None:
        key_class = self.random.choice(("customer", "customer", "customer", "none", "dangling", "unknown", "aws_owned"))
        key = self.random.choice(self.keys()) if key_class in {"customer", "dangling"} else None
        self.world.uses(arn, key, key_class)

    def _add_gap(self) -> None:
        key = self.random.choice(self.keys())
        account_id, region = key.split(":")[4], key.split(":")[3]
        cause = self.random.choice(("key_policy", "throttled"))
        self.world.gap(account_id, region, f"kms:{self.random.choice(ACTIONS)}", key, cause)

    def _close_gap(self) -> None:
        self._drop(Gap)

    def _toggle_outcome(self) -> None:
        scope = self.random.choice([scope for scope in self.world.outcomes if scope[1] in REGIONS])
        failed = self.world.outcomes[scope][0] != "failed"
        self.world.outcomes[scope] = ("failed", "the role does not exist") if failed else ("partial", None)

    def _change(self, model: type[Any], **values: Any) -> None:
        natural_keys = list(self.world.facts.get(model, {}))
        if natural_keys:
            self.world.change(model, *self.random.choice(natural_keys), **values)

    def _drop(self, model: type[Any]) -> None:
        natural_keys = list(self.world.facts.get(model, {}))
        if natural_keys and model is not Account:
            del self.world.facts[model][self.random.choice(natural_keys)]
