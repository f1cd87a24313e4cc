"""How resources name their keys: in every form that AWS accepts, and sometimes one that leads nowhere."""

from __future__ import annotations

from typing import Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.accounts import OUTSIDE
from benchmarks.fake_aws.id_encoding import CUSTOMER, Ids, alias_names, slot
from benchmarks.fake_aws.presets import Parameters
from benchmarks.fake_aws.seeded_random import Draw


class Here(Protocol):
    """What a reference depends on."""

    parameters: Parameters
    account_id: str
    region: str
    other: str

    @property
    def customer_at_first(self) -> int:
        """How many plain customer keys there were before the first night."""


def reference(here: Here, draw: Draw, *, sentinels: bool = True) -> str | None:
    """A key as a resource names it; None for the service's default key (where there are no keys to name)."""
    target = draw.weighted(assumed.REFERENCE_TARGETS)
    form = draw.weighted(assumed.REFERENCE_FORMS)
    number = draw.between(0, max(0, here.customer_at_first - 1))
    account = here.account_id
    if target == "other account":
        account, number, form = here.other, 0, "key ARN"
    elif target == "outside the organization":
        account, form = OUTSIDE, "key ARN"
    elif target == "gone":
        number += 1_000_000
    elif not here.customer_at_first:
        return None
    if form == "sentinel":
        return draw.pick(assumed.SENTINELS) if sentinels else None
    at = slot(CUSTOMER, number)
    key_id = Ids(here.parameters.seed, account, here.region).encode(at)
    base = f"arn:aws:kms:{here.region}:{account}:"
    aliases = alias_names(here.parameters.seed, account, here.region, at)
    if form in {"key ARN", "key id"} or not aliases:
        return key_id if form == "key id" else f"{base}key/{key_id}"
    return aliases[0] if form == "alias name" else base + aliases[0]
