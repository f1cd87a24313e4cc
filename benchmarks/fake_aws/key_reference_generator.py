"""Key references of resources: every form that AWS accepts, and some dangling ones."""

from __future__ import annotations

from typing import Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import OUTSIDE
from benchmarks.fake_aws.id_encoding import CUSTOMER, Ids, alias_names, make_slot
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw


class ReferenceScope(Protocol):
    """The properties of an account-region that a key reference depends on."""

    parameters: Parameters
    account_id: str
    region: str
    other: str

    @property
    def initial_customer_keys(self) -> int:
        """The initial number of ordinary customer keys."""


def key_reference(scope: ReferenceScope, draw: Draw, *, sentinels: bool = True) -> str | None:
    """A random key reference; None for the default key of the service."""
    target = draw.weighted(assumed.REFERENCE_TARGETS)
    form = draw.weighted(assumed.REFERENCE_FORMS)
    number = draw.between(0, max(0, scope.initial_customer_keys - 1))
    account = scope.account_id
    if target == "other account":
        account, number, form = scope.other, 0, "key ARN"
    elif target == "outside the organization":
        account, form = OUTSIDE, "key ARN"
    elif target == "gone":
        number += 1_000_000
    elif not scope.initial_customer_keys:
        return None
    if form == "sentinel":
        return draw.pick(assumed.SENTINELS) if sentinels else None
    slot = make_slot(CUSTOMER, number)
    key_id = Ids(scope.parameters.seed, account, scope.region).encode(slot)
    base = f"arn:aws:kms:{scope.region}:{account}:"
    aliases = alias_names(scope.parameters.seed, account, scope.region, slot)
    if form in {"key ARN", "key id"} or not aliases:
        return key_id if form == "key id" else f"{base}key/{key_id}"
    return aliases[0] if form == "alias name" else base + aliases[0]
