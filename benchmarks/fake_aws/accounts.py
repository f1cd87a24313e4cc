"""The accounts, organizational units and region opt-ins of the generated organization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.presets import OPT_IN_REGIONS, START, Parameters
from benchmarks.fake_aws.seeded_random import Draw

ROOT = "r-fake"
OUTSIDE = "999988887777"
"""An account that does not belong to the organization."""
UNITS: dict[str, str] = {
    "workload": "ou-fake-0workload",
    "sandbox": "ou-fake-00sandbox",
    "shared-services": "ou-fake-000shared",
    "data-platform": "ou-fake-00000data",
    "network": "ou-fake-00network",
    "security": "ou-fake-0security",
}
PRODUCTION = "ou-fake-production"
"""A unit below the workload unit: the tree is two levels deep."""

Role = Literal["good", "missing", "other external id"]


@dataclass(frozen=True, slots=True)
class Account:
    """One account. `opt_ins` are its enabled opt-in regions, `denied` the regions that an SCP denies."""

    index: int
    id: str
    name: str
    state: str
    kind: str
    unit: str
    role: Role
    opt_ins: tuple[str, ...]
    active: tuple[str, ...]
    denied: frozenset[str]

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids from the root down to the unit."""
        if self.index == 0:
            return (ROOT,)
        return (ROOT, UNITS["workload"], PRODUCTION) if self.unit == PRODUCTION else (ROOT, self.unit)

    def entry(self, parameters: Parameters) -> dict[str, Any]:
        """The account in the response of organizations:ListAccounts."""
        organization = parameters.organization_id
        entry_fields: dict[str, Any] = {
            "Id": self.id,
            "Arn": f"arn:aws:organizations::{parameters.account_id(0)}:account/{organization}/{self.id}",
            "Email": f"aws+{self.index}@fake.example",
            "Name": self.name,
            "JoinedMethod": "CREATED" if self.index else "INVITED",
            "JoinedTimestamp": START - 86_400.0 * (30 + self.index % 2000),
        }
        if parameters.status in {"state", "both"}:
            entry_fields["State"] = self.state
        if parameters.status in {"status", "both"} and self.state in {"ACTIVE", "SUSPENDED", "PENDING_CLOSURE"}:
            entry_fields["Status"] = self.state
        if parameters.paths:
            entry_fields["Paths"] = ["/".join((organization, *self.parents)) + "/"]
        return entry_fields

    def region_states(self, parameters: Parameters) -> dict[str, str]:
        """Opt-in status by region, with the values of account:ListRegions."""
        states = dict.fromkeys(parameters.regions, "ENABLED_BY_DEFAULT")
        states.update({region: "ENABLED" if region in self.opt_ins else "DISABLED" for region in parameters.opt_in})
        return dict(sorted(states.items()))


def make_account(parameters: Parameters, index: int) -> Account:
    """The account at an index; 0 is the management account, 1 to 5 are special (see `Parameters.adversarial`)."""
    draw = Draw(parameters.seed, "account", index)
    kind = draw.weighted(assumed.ARCHETYPES)
    state = draw.weighted(assumed.ACCOUNT_STATES)
    role_draw = draw.unit()
    opt_ins = _opt_ins(parameters, draw)
    active = _active(parameters, draw, opt_ins)
    denied = frozenset(parameters.scp_denied)
    role: Role = "good"
    if role_draw < assumed.ROLE_MISSING:
        role = "missing"
    elif role_draw < assumed.ROLE_MISSING + assumed.OTHER_EXTERNAL_ID:
        role = "other external id"
    special = parameters.adversarial and index <= 5
    if index == 0 or special or parameters.dense:
        state, role = "ACTIVE", "good"
    if special:
        if index in {1, 2}:
            active = tuple(dict.fromkeys((*parameters.regions[:3], *active)))
        if index == 2:
            denied |= {parameters.regions[-1]}
        role = {3: "missing", 4: "other external id"}.get(index, "good")  # type: ignore[assignment]  # the values are those of Role
        state = "SUSPENDED" if index == 5 else "ACTIVE"
    unit = PRODUCTION if kind == "workload" and index % 2 else UNITS[kind]
    account_id = parameters.account_id(index)
    name = "management" if index == 0 else f"{kind}-{index}"
    return Account(index, account_id, name, state, kind, unit, role, opt_ins, active, denied)


def _opt_ins(parameters: Parameters, draw: Draw) -> tuple[str, ...]:
    count = draw.between(*draw.weighted(assumed.OPT_IN_REGIONS_ENABLED))
    offered = [region for region in OPT_IN_REGIONS if region in parameters.opt_in]
    return tuple(sorted({draw.pick(offered) for _ in range(count)})) if offered else ()


def _active(parameters: Parameters, draw: Draw, opt_ins: tuple[str, ...]) -> tuple[str, ...]:
    if parameters.dense:
        return parameters.regions
    count = draw.between(*draw.weighted(assumed.ACTIVE_REGIONS))
    offered = (*parameters.regions[: max(3, len(parameters.regions))], *opt_ins)
    # The home region is nearly always in use.
    return tuple(sorted({parameters.regions[0], *(draw.pick(offered) for _ in range(count - 1))}))
