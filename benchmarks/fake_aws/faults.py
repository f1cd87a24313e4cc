"""Faults between a client and AWS, as settings of the endpoint."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

DenialReason = Literal["key policy", "role", "scp", "bare"]
"""The kind of policy that the message of an access denial names."""
Accident = Literal["throttle", "error", "reset", "cut", "hang", "truncate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """An injected access denial. `*` matches everything; `key` is a key id."""

    operation: str = "*"
    """With the service: `kms:ListGrants`, `rds:*`."""
    account: str = "*"
    region: str = "*"
    key: str = "*"
    reason: DenialReason = "role"

    def matches(self, operation: str, account: str, region: str, key: str) -> bool:
        """Whether a call is denied."""
        named = self.operation in {"*", operation} or self.operation == f"{operation.partition(':')[0]}:*"
        return (
            named and self.account in {"*", account} and self.region in {"*", region} and self.key in {"*", key or "*"}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates are shares of all requests; a request has at most one accident. The default has no faults."""

    seed: int = 0
    throttle: float = 0.0
    """Throttled with the error code of the service."""
    error: float = 0.0
    """An internal error: three quarters in the format of the service, the others as an HTML page of a proxy."""
    reset: float = 0.0
    """The connection is reset before the response."""
    cut: float = 0.0
    """The connection is reset after the headers and half of the body."""
    hang: float = 0.0
    """No response for `hang_seconds`, then the connection is reset."""
    hang_seconds: float = 60.0
    truncate: float = 0.0
    """The body is shorter than its Content-Length, and the connection is closed regularly."""
    only: tuple[str, ...] = ()
    """Operations that have accidents, with their service; empty: all."""
    accounts: tuple[str, ...] = ()
    """Accounts that have accidents; empty: all."""
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    """A response takes `latency_ms` plus up to `jitter_ms`."""
    expire_after_calls: int | None = None
    """A role session expires after this number of calls."""
    session_seconds: int | None = None
    """The lifetime of role sessions, regardless of the requested one."""
    role_gone_after: Mapping[str, int] = field(default_factory=dict)
    """By account: the role is deleted after this number of calls."""
    denials: tuple[Denial, ...] = ()
    quota_factor: float = 0.0
    """A factor for the enforced quotas; 0: no quotas."""
    background: Mapping[str, float] = field(default_factory=dict)
    """By operation: the share of the quota that production workloads of the account use."""
    verify_signatures: bool = False
    clock_offset: float | None = None
    """If set, responses have a date: the local clock plus these seconds."""

    @property
    def accidents(self) -> tuple[tuple[Accident, float], ...]:
        """The accidents with a rate above 0."""
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
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; missing fields have their default. Raises ValueError for an unknown name."""
        names = {each.name for each in fields(cls)}
        if unknown := values.keys() - names:
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
        arguments = dict(values)
        arguments["denials"] = tuple(Denial(**each) for each in arguments.get("denials", ()))
        arguments["only"] = tuple(arguments.get("only", ()))
        arguments["accounts"] = tuple(arguments.get("accounts", ()))
        return cls(**arguments)


class FaultInjector:
    """Decides for each request which accident happens; the same seed gives the same sequence."""

    def __init__(self, faults: Faults) -> None:
        self._random = random.Random(faults.seed)
        self._accidents = faults.accidents
        self._only = frozenset(faults.only)
        self._accounts = frozenset(faults.accounts)
        self._faults = faults

    def accident(self, operation: str, account: str = "") -> Accident | None:
        """The accident of the next request, if any."""
        if not self._accidents or (self._only and operation not in self._only):
            return None
        if self._accounts and account not in self._accounts:
            return None
        threshold = self._random.random()
        for kind, rate in self._accidents:
            threshold -= rate
            if threshold < 0:
                return kind
        return None

    def delay(self) -> float:
        """The delay of the next response in seconds."""
        faults = self._faults
        return (faults.latency_ms + self._random.random() * faults.jitter_ms) / 1000

    def chance(self, share: float) -> bool:
        """Return True with this probability."""
        return self._random.random() < share
