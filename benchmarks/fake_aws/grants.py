"""Grants, generated page by page, because a key can have fifty thousand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.presets import DAY, START
from benchmarks.fake_aws.seeded_random import Draw

ADDED = 1_000_000
"""The first number of grants that were added on a later day."""
OPERATIONS = (
    [
        "Decrypt",
        "Encrypt",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
        "CreateGrant",
        "DescribeKey",
    ],
    ["Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo", "RetireGrant", "DescribeKey"],
    ["Decrypt"],
    ["Sign", "Verify", "GetPublicKey"],
)
SERVICES = ("ec2", "rds", "dynamodb", "backup", "workspaces", "redshift")


@dataclass(frozen=True, slots=True)
class Grants:
    """The grants of one key: their initial number, and those that later days removed and added (by number)."""

    owner: str
    """The seed of the random numbers: account, region and key."""
    key_arn: str
    account_id: str
    other: str
    base: int
    removed: frozenset[int] = frozenset()
    added: tuple[int, ...] = ()
    services_only: bool = False

    def __len__(self) -> int:
        return self.base - len(self.removed) + len(self.added)

    def page(self, start: int, size: int) -> list[dict[str, Any]]:
        """Grants from `start`, in the shape of kms:ListGrants."""
        if not self.removed and not self.added:
            return [self._grant(number) for number in range(start, min(self.base, start + size))]
        numbers = [number for number in range(self.base) if number not in self.removed]
        return [self._grant(number) for number in (*numbers, *self.added)[start : start + size]]

    def _grant(self, number: int) -> dict[str, Any]:
        draw = Draw("grant", self.owner, number)
        created = START + (number - ADDED - 0.5) * DAY if number >= ADDED else START - draw.between(1, 1500) * DAY
        service = draw.pick(SERVICES)
        grant: dict[str, Any] = {"KeyId": self.key_arn, "GrantId": draw.hexes(64), "CreationDate": created}
        # AWS returns an empty name for a grant without a name.
        grant["Name"] = draw.hexes(32) if draw.chance(assumed.GRANT_NAMED) else ""
        as_service = draw.chance(assumed.GRANTEE_IS_SERVICE)
        if self.services_only:
            grant["GranteeServicePrincipal"] = f"{service}.amazonaws.com"
            grant["RetiringServicePrincipal"] = f"{service}.amazonaws.com"
        elif as_service:
            grant["GranteePrincipal"] = f"{service}.us-east-1.amazonaws.com"
        elif draw.chance(assumed.GRANTEE_DELETED):
            grant["GranteePrincipal"] = f"AROA{draw.hexes(16).upper()}X"
        else:
            role = f"arn:aws:iam::{self.account_id}:role/app-{number % 40}"
            grant["GranteePrincipal"] = role
            grant["RetiringPrincipal"] = role
        elsewhere = draw.chance(assumed.GRANT_ISSUED_ELSEWHERE)
        grant["IssuingAccount"] = f"arn:aws:iam::{self.other if elsewhere else self.account_id}:root"
        grant["Operations"] = draw.pick(OPERATIONS)
        if draw.chance(0.5):
            kind = "EncryptionContextSubset" if draw.chance(0.7) else "EncryptionContextEquals"
            grant["Constraints"] = {kind: {"aws:ebs:id": f"vol-0{draw.hexes(16)}"}}
        return grant
