"""One call of an API operation, on its way to its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fake_aws.aws_protocols import RefusedError, refused
from benchmarks.fake_aws.faults import Faults, Wording
from benchmarks.fake_aws.identity import Identities, Session
from benchmarks.fake_aws.pagination import Page, Pager
from benchmarks.fake_aws.world_state import Place, World

INSIST = {
    "key policy": "because no resource-based policy allows the {action} action",
    "role": "because no identity-based policy allows the {action} action",
    "scp": "with an explicit deny in a service control policy",
    "bare": "",
}
"""How AWS explains a denial, by the kind of policy to blame."""
EXEMPT_FROM_REGION_DENIAL = frozenset({"sts", "iam", "organizations", "account"})
REGION_DENIAL_OF_S3 = frozenset({"s3:GetBucketEncryption", "s3:GetBucketTagging"})
ACTIONS = {"s3:ListBuckets": "s3:ListAllMyBuckets", "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration"}
"""IAM actions that are not named like their operation."""


@dataclass(slots=True)
class State:
    """What all calls share, and what the control can change."""

    world: World
    faults: Faults = field(default_factory=Faults)
    night: int = 0
    pager: Pager = field(init=False)
    identities: Identities = field(init=False)
    calls_by_account: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        parameters = self.world.parameters
        self.pager = Pager(parameters.seed, parameters.empty_pages)
        self.identities = Identities(self.world)

    def role_is_gone(self, account_id: str) -> bool:
        """Whether the role of an account was deleted meanwhile."""
        limit = self.faults.role_gone_after.get(account_id)
        return limit is not None and self.calls_by_account[account_id] >= limit


@dataclass(slots=True)
class Call:
    """`operation` has the service's signing name before it; `asked` are the parameters, by their names on the wire."""

    state: State
    service: str
    operation: str
    region: str
    session: Session
    asked: Mapping[str, Any]
    now: float
    _place: Place | None = None

    @property
    def name(self) -> str:
        """The operation without its service."""
        return self.operation.partition(":")[2]

    @property
    def place(self) -> Place:
        """The caller's account in the region of the call."""
        if self._place is None:
            self._place = self.state.world.place(self.session.account_id, self.region, self.state.night)
        return self._place

    def page(self, subject: str, total: int) -> Page:
        """The page that is asked for."""
        where = f"{self.session.account_id}/{self.region}/{subject}"
        return self.state.pager.page(self.operation, where, total, self.asked)

    def denied(self, wording: Wording, resource: str = "*") -> RefusedError:
        """An access denial in AWS's words."""
        action = ACTIONS.get(self.operation, self.operation)
        text = f"User: {self.session.arn} is not authorized to perform: {action}"
        text += f" on resource: {resource} {INSIST[wording].format(action=action)}"
        return refused(self.service, "denied", text.rstrip())

    def check(self, key: str = "") -> None:
        """Raise the denials that do not depend on what is asked for: injected ones, and a region closed by an SCP."""
        for denial in self.state.faults.denials:
            if denial.fits(self.operation, self.session.account_id, self.region, key):
                raise self.denied(denial.wording)
        if key:  # the region was looked at before
            return
        if self.service in EXEMPT_FROM_REGION_DENIAL:
            return
        if self.service == "s3" and self.operation not in REGION_DENIAL_OF_S3:
            return
        if self.place.closed and self.session.account_id != self.state.world.management.id:
            # SCPs do not bind the management account.
            raise self.denied("scp")


Handler = Callable[[Call], bytes]
"""The body of the answer; raises RefusedError."""
