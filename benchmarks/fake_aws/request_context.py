"""The context of one API call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.fake_aws.aws_protocols import ApiError, api_error
from benchmarks.fake_aws.faults import DenialReason, Faults
from benchmarks.fake_aws.identity import Identities, Session
from benchmarks.fake_aws.pagination import PAGING, Page, Pager
from benchmarks.fake_aws.world_state import AccountRegion, World

DENIAL_TEXTS = {
    "key policy": "because no resource-based policy allows the {action} action",
    "role": "because no identity-based policy allows the {action} action",
    "scp": "with an explicit deny in a service control policy",
    "bare": "",
}
"""The explanation in the message of an access denial, by reason."""
EXEMPT_FROM_REGION_DENIAL = frozenset({"sts", "iam", "organizations", "account"})
REGION_DENIAL_OF_S3 = frozenset({"s3:GetBucketEncryption", "s3:GetBucketTagging"})
ACTIONS = {"s3:ListBuckets": "s3:ListAllMyBuckets", "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration"}
"""IAM actions whose name differs from the operation."""


@dataclass(slots=True)
class State:
    """The state that all calls share and the admin API can change."""

    world: World
    faults: Faults = field(default_factory=Faults)
    day: int = 0
    pager: Pager = field(init=False)
    identities: Identities = field(init=False)
    calls_by_account: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        parameters = self.world.parameters
        self.pager = Pager(parameters.seed, parameters.empty_pages)
        self.identities = Identities(self.world)

    def role_is_gone(self, account_id: str) -> bool:
        """Whether the role of an account was deleted (`Faults.role_gone_after`)."""
        limit = self.faults.role_gone_after.get(account_id)
        return limit is not None and self.calls_by_account[account_id] >= limit


@dataclass(slots=True)
class Call:
    """An API call. `operation` includes the signing name of the service; `params` are the parameters by wire name."""

    state: State
    service: str
    operation: str
    region: str
    session: Session
    params: Mapping[str, Any]
    now: float
    _account_region: AccountRegion | None = None

    @property
    def name(self) -> str:
        """The operation without the service."""
        return self.operation.partition(":")[2]

    @property
    def account_region(self) -> AccountRegion:
        """The account of the caller in the region of the call."""
        if self._account_region is None:
            self._account_region = self.state.world.account_region(self.session.account_id, self.region, self.state.day)
        return self._account_region

    def page(self, subject: str, total: int) -> Page:
        """The requested page of a listing."""
        listing = f"{self.session.account_id}/{self.region}/{subject}"
        return self.state.pager.page(self.operation, listing, total, self.params)

    def listing(self, subject: str, name: str, entries: Sequence[Any], **members: Any) -> dict[str, Any]:
        """The requested page of a listing: entries under `name`, with token, flag of further pages and other members."""
        page = self.page(subject, len(entries))
        return self.paged(page, {**members, name: entries[page.start : page.start + page.size]})

    def paged(self, page: Page, members: dict[str, Any]) -> dict[str, Any]:
        """A response with the token of the next page, in the members that the crawler declares."""
        paging = PAGING[self.operation]
        if paging.more:
            members[paging.more] = page.token is not None
        if page.token is not None:
            members[paging.receive] = page.token
        return members

    def denied(self, reason: DenialReason, resource: str = "*") -> ApiError:
        """An access denial with the message of AWS."""
        action = ACTIONS.get(self.operation, self.operation)
        text = f"User: {self.session.arn} is not authorized to perform: {action}"
        text += f" on resource: {resource} {DENIAL_TEXTS[reason].format(action=action)}"
        return api_error(self.service, "denied", text.rstrip())

    def check(self, key: str = "") -> None:
        """Raise ApiError for injected denials and for a region that an SCP denies."""
        for denial in self.state.faults.denials:
            if denial.matches(self.operation, self.session.account_id, self.region, key):
                raise self.denied(denial.reason)
        if key:  # the region was checked before
            return
        if self.service in EXEMPT_FROM_REGION_DENIAL:
            return
        if self.service == "s3" and self.operation not in REGION_DENIAL_OF_S3:
            return
        if self.account_region.closed and self.session.account_id != self.state.world.management.id:
            # SCPs do not bind the management account.
            raise self.denied("scp")


Handler = Callable[[Call], bytes | Mapping[str, Any]]
"""Returns the members of the response, or its encoded body; raises ApiError."""
