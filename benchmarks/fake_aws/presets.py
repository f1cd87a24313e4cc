"""What a world is made from: a seed, a size, and what is to be in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

START = 1_795_132_800.0
"""Night 0: 2026-11-20, 00:00 UTC. The clock of a world is its own, so that the same seed gives the same answers on any day."""
DAY = 86_400.0
DEFAULT_REGIONS = (
    "us-east-1",
    "eu-west-1",
    "eu-central-1",
    "us-west-2",
    "us-east-2",
    "us-west-1",
    "ap-south-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "sa-east-1",
)
"""The 17 regions that every account has, the busiest first."""
OPT_IN_REGIONS = ("af-south-1", "ap-east-1", "ca-west-1", "eu-central-2", "eu-south-1", "il-central-1", "me-south-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything in a world follows from these and the night."""

    seed: int = 1
    accounts: int = 7
    regions: tuple[str, ...] = DEFAULT_REGIONS
    opt_in: tuple[str, ...] = OPT_IN_REGIONS
    """Opt-in regions that exist."""
    dense: bool = False
    """Every account is active in every region, and no account has troubles but the ones that are planned."""
    adversarial: bool = True
    """Accounts 1 to 5 are: one with every odd key and resource there is, one with a region closed by an SCP, one without
    the role, one with another external id, one suspended."""
    change_rate: float = 0.01
    """Share of customer keys, and of resources, that change in a night."""
    external_id: str | None = "fake-external-id"
    role_name: str = "KmsInventoryReadOnly"
    paths: bool = True
    """ListAccounts tells the Paths of accounts."""
    status: Literal["state", "status", "both"] = "state"
    """Whether an account has the member State, the retired member Status, or both."""
    scp_denied: tuple[str, ...] = ()
    """Regions that an SCP closes for all accounts."""
    empty_pages: float = 0.05
    """Share of listing pages that are preceded by an empty page with a token."""
    keys_per_place: int | None = None
    """Customer keys of each active account-region, in place of the assumed distribution."""
    policy_statements: int | None = None
    """Statements of each customer key's policy, in place of the assumed distribution."""
    grants_per_key: int | None = None
    """Grants of each customer key, in place of the assumed distribution."""
    most_grants: int | None = None
    """No customer key has more grants than this, the crowded one aside; ``None``: up to the quota of 50,000."""
    giant_keys: int = 0
    """Customer keys of the giant account-region (see `World.giant`); 0: there is none."""
    giant_grants: int = 130
    """Grants of the crowded key among the odd ones."""
    outliers: int = 0
    """Further account-regions with thousands of keys."""
    resources: float = 1.0
    """Scales the number of secrets, databases, caches and buckets."""

    @property
    def organization_id(self) -> str:
        """Of AWS Organizations."""
        return f"o-fake{self.seed:06d}"

    def account_id(self, index: int) -> str:
        """Twelve digits; a tenth of the room is between two accounts, so that a mistaken id does not hit another."""
        return str(100_000_000_000 + (self.seed % 8_000) * 100_000_000 + index * 10_007 + 4_242)

    def account_index(self, account_id: str) -> int | None:
        """The way back; None for an account that is not of this organization."""
        if not account_id.isdigit() or len(account_id) != 12:
            return None
        index, rest = divmod(int(account_id) - int(self.account_id(0)), 10_007)
        return index if rest == 0 and 0 <= index < self.accounts else None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From `to_json`, or from a part of it. Raises ValueError for an unknown name."""
        known = {each.name for each in fields(cls)}
        if unknown := values.keys() - known:
            raise ValueError(f"no such parameters of a world: {', '.join(sorted(unknown))}")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)


PRESETS: Mapping[str, Parameters] = {
    "tiny": Parameters(accounts=7, regions=DEFAULT_REGIONS[:3], opt_in=("af-south-1",), dense=True, resources=0.2),
    "small": Parameters(accounts=25),
    "medium": Parameters(accounts=250, outliers=1),
    "large": Parameters(accounts=1000, outliers=3),
}


def preset(name: str, **overrides: Any) -> Parameters:
    """A ready-made size (tiny, small, medium, large), with some parameters replaced."""
    return replace(PRESETS[name], **overrides)
