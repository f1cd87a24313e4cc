"""What can go wrong between a client and AWS, as settings of one run."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

Wording = Literal["key policy", "role", "scp", "bare"]
"""Which kind of policy the message of an access denial blames."""
Accident = Literal["throttle", "error", "reset", "cut", "hang", "truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A refusal beyond those of the world itself. `*` is any; `key` is a key's id."""

    operation: str = "*"
    """With its service: `kms:ListGrants`, `rds:*`."""
    account: str = "*"
    region: str = "*"
    key: str = "*"
    wording: Wording = "role"

    def fits(self, operation: str, account: str, region: str, key: str) -> bool:
        """Whether this call is denied."""
        named = self.operation in {"*", operation} or self.operation == f"{operation.partition(':')[0]}:*"
        return (
            named and self.account in {"*", account} and self.region in {"*", region} and self.key in {"*", key or "*"}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates are shares of all requests, at most one accident a request. The default is an AWS in the best of moods."""

    seed: int = 0
    throttle: float = 0.0
    """Refused with the service's own throttle code."""
    error: float = 0.0
    """An internal error: three in four in the service's own words, the others an HTML page of something in between."""
    reset: float = 0.0
    """The connection is reset before anything is answered."""
    cut: float = 0.0
    """The connection is reset after the head and half of the body."""
    hang: float = 0.0
    """No answer for `hang_seconds`, then the connection ends."""
    hang_seconds: float = 60.0
    truncate: float = 0.0
    """The body ends before its Content-Length, and the connection is closed in an orderly way."""
    only: tuple[str, ...] = ()
    """Operations that have accidents, with their service; empty: all."""
    accounts: tuple[str, ...] = ()
    """Accounts that have accidents; empty: all."""
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    """An answer takes `latency_ms` and up to `jitter_ms` more."""
    expire_after_calls: int | None = None
    """A role session has expired after so many calls."""
    session_seconds: int | None = None
    """A role session lasts so long, whatever was asked for."""
    role_gone_after: Mapping[str, int] = field(default_factory=dict)
    """By account: the role is deleted once so many calls were made with it."""
    denials: tuple[Denial, ...] = ()
    quota_factor: float = 0.0
    """Quotas hold, multiplied by this; 0: there are none."""
    background: Mapping[str, float] = field(default_factory=dict)
    """By operation: the share of its quota that the account's own production uses."""
    verify_signatures: bool = False

    @property
    def accidents(self) -> tuple[tuple[Accident, float], ...]:
        """Those that happen at all, with their rates."""
        rates: tuple[tuple[Accident, float], ...] = (
            ("throttle", self.throttle),
            ("error", self.error),
            ("reset", self.reset),
            ("cut", self.cut),
            ("hang", self.hang),
            ("truncate", self.truncate),
        )
        return tuple((kind, rate) for kind, rate in rates if rate > 0)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From `to_json`, or from the part of it that differs from the default. Raises ValueError for an unknown name."""
        known = {each.name for each in fields(cls)}
        if unknown := values.keys() - known:
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
        plain = dict(values)
        plain["denials"] = tuple(Denial(**each) for each in plain.get("denials", ()))
        plain["only"] = tuple(plain.get("only", ()))
        plain["accounts"] = tuple(plain.get("accounts", ()))
        return cls(**plain)


class Dice:
    """Decides request by request which accident happens; the same seed gives the same sequence."""

    def __init__(self, faults: Faults) -> None:
        self._random = random.Random(faults.seed)
        self._accidents = faults.accidents
        self._only = frozenset(faults.only)
        self._accounts = frozenset(faults.accounts)
        self._faults = faults

    def accident(self, operation: str, account: str = "") -> Accident | None:
        """What happens to the next request, if anything."""
        if not self._accidents or (self._only and operation not in self._only):
            return None
        if self._accounts and account not in self._accounts:
            return None
        left = self._random.random()
        for kind, rate in self._accidents:
            left -= rate
            if left < 0:
                return kind
        return None

    def delay(self) -> float:
        """Seconds that the next answer takes."""
        faults = self._faults
        return (faults.latency_ms + self._random.random() * faults.jitter_ms) / 1000

    def coin(self, share: float) -> bool:
        """True in this share of all cases."""
        return self._random.random() < share
