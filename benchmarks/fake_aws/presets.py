"""The parameters of a generated organization, and presets of different sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

START = 1_795_132_800.0
"""Day 0: 2026-11-20, 00:00 UTC. The simulated clock is fixed, so that the same seed always gives the same responses."""
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
"""The 17 regions that are enabled by default, the busiest first."""
OPT_IN_REGIONS = ("af-south-1", "ap-east-1", "ca-west-1", "eu-central-2", "eu-south-1", "il-central-1", "me-south-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Together with the day, these determine the whole organization."""

    seed: int = 1
    accounts: int = 7
    regions: tuple[str, ...] = DEFAULT_REGIONS
    opt_in: tuple[str, ...] = OPT_IN_REGIONS
    """Available opt-in regions."""
    dense: bool = False
    """Every account is active in every region, and only the accounts of `adversarial` have problems."""
    adversarial: bool = True
    """Accounts 1 to 5 are special: one with all edge cases, one with a region denied by an SCP, one without
    the role, one with another external id, one suspended."""
    change_rate: float = 0.01
    """Share of customer keys and resources that change per day."""
    external_id: str | None = "fake-external-id"
    role_name: str = "KmsInventoryReadOnly"
    paths: bool = True
    """Whether ListAccounts returns Paths."""
    status: Literal["state", "status", "both"] = "state"
    """Whether ListAccounts returns State, the deprecated Status, or both."""
    scp_denied: tuple[str, ...] = ()
    """Regions that an SCP denies for all accounts."""
    empty_pages: float = 0.05
    """Share of pages that are preceded by an empty page with a token."""
    keys_per_account_region: int | None = None
    """Customer keys per active account-region, instead of the assumed distribution."""
    policy_statements: int | None = None
    """Statements per customer key policy, instead of the assumed distribution."""
    grants_per_key: int | None = None
    """Grants per customer key, instead of the assumed distribution."""
    most_grants: int | None = None
    """The maximum of grants per customer key, except the crowded edge case; ``None``: the quota of 50,000."""
    giant_keys: int = 0
    """Customer keys of the giant account-region (see `World.giant`); 0: none."""
    giant_grants: int = 130
    """Grants of the edge-case key `crowded`."""
    key_denials: bool = True
    """Whether some key policies deny calls."""
    outliers: int = 0
    """Number of further account-regions with thousands of keys."""
    resources: float = 1.0
    """A factor for the number of secrets, databases, caches and buckets."""

    @property
    def organization_id(self) -> str:
        """The id of the organization."""
        return f"o-fake{self.seed:06d}"

    def account_id(self, index: int) -> str:
        """The id of the account at an index; ids are far apart, so that a wrong id does not hit another account."""
        return str(100_000_000_000 + (self.seed % 8_000) * 100_000_000 + index * 10_007 + 4_242)

    def account_index(self, account_id: str) -> int | None:
        """The inverse of `account_id`; None for an account outside the organization."""
        if not account_id.isdigit() or len(account_id) != 12:
            return None
        index, rest = divmod(int(account_id) - int(self.account_id(0)), 10_007)
        return index if rest == 0 and 0 <= index < self.accounts else None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; missing fields have their default. Raises ValueError for an unknown name."""
        names = {each.name for each in fields(cls)}
        if unknown := values.keys() - names:
            raise ValueError(f"unknown parameters: {', '.join(sorted(unknown))}")
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**arguments)


PRESETS: Mapping[str, Parameters] = {
    "tiny": Parameters(accounts=7, regions=DEFAULT_REGIONS[:3], opt_in=("af-south-1",), dense=True, resources=0.2),
    "small": Parameters(accounts=25),
    "medium": Parameters(accounts=250, outliers=1),
    "large": Parameters(accounts=1000, outliers=3),
}


def preset(name: str, **overrides: Any) -> Parameters:
    """The parameters of a preset (tiny, small, medium, large), with overrides."""
    return replace(PRESETS[name], **overrides)
