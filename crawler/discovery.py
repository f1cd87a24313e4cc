"""Discovers accounts, organizational units and regions: the scopes of a crawl.

Sources: AWS Organizations (DescribeOrganization, ListAccounts, ListRoots, ListOrganizationalUnitsForParent,
ListAccountsForParent, ListTagsForResource), AWS Account Management (ListRegions), EC2 (DescribeRegions).
"""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, TypeVar

from crawler.aws.client import AwsClient, CredentialProvider, parameters
from crawler.aws.credentials import Identity, Roles
from crawler.aws.endpoints import known_regions
from crawler.aws.errors import AwsError, RequiredCallError
from crawler.aws.response_validation import INVALID_ITEM, REGION, as_error, invalid_response, items_of, require
from crawler.spec import Operation, Paging, Scope, Subject
from models.errors import InvalidSettingsError, UserError
from models.settings import AccountFilter, OrganizationSettings, RegionSettings, Settings
from models.tables.runs import Cause

_ORGANIZATION_PAGES = Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=20)


def _listing(name: str, items: str, *requires: str, paging: Paging = _ORGANIZATION_PAGES, **params: str) -> Operation:
    return Operation("organizations", name, params, items, requires, paging, caller="hub")


DESCRIBE_ORGANIZATION = Operation(
    "organizations", "DescribeOrganization", items="Organization", requires=("Id", "MasterAccountId"), caller="hub"
)
LIST_ACCOUNTS = _listing("ListAccounts", "Accounts", "Id", "Arn")
LIST_ROOTS = _listing("ListRoots", "Roots", "Id", "Name")
LIST_UNITS = _listing("ListOrganizationalUnitsForParent", "OrganizationalUnits", "Id", "Name", ParentId="@parent")
LIST_ACCOUNTS_OF_UNIT = _listing("ListAccountsForParent", "Accounts", "Id", ParentId="@parent")
LIST_ACCOUNT_TAGS = _listing(
    "ListTagsForResource", "Tags", "Key", paging=Paging("NextToken", "NextToken"), ResourceId="@account_id"
)
LIST_REGIONS = Operation(
    "account",
    "ListRegions",
    {"AccountId": "@account_id"},
    items="Regions",
    requires=("RegionName",),
    paging=Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=50),
    caller="hub",
)
LIST_OWN_REGIONS = replace(LIST_REGIONS, params={})
"""The management account must not pass its own id; without an id the API uses the caller's account."""
DESCRIBE_REGIONS = Operation("ec2", "DescribeRegions", {"AllRegions": True}, items="Regions", requires=("RegionName",))
OPERATIONS = (
    DESCRIBE_ORGANIZATION,
    LIST_ACCOUNTS,
    LIST_ROOTS,
    LIST_UNITS,
    LIST_ACCOUNTS_OF_UNIT,
    LIST_ACCOUNT_TAGS,
    LIST_REGIONS,
    DESCRIBE_REGIONS,
)


def fallback_operations(regions: RegionSettings) -> set[Operation]:
    """Return the operations that are called only where another one failed, or lacked a member as older endpoints do."""
    return {LIST_ACCOUNTS_OF_UNIT, *({LIST_REGIONS} if regions.source == "ec2" else ())}


ENABLED = frozenset({"ENABLED", "ENABLED_BY_DEFAULT", "ENABLING", "DISABLING", "opt-in-not-required", "opted-in"})
"""Opt-in statuses of regions to crawl; a region in transition may or may not respond."""
ACTIVE = "ACTIVE"


T = TypeVar("T")


class OrganizationError(UserError):
    """The credentials or settings do not allow the crawler to read the organization."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """A discovered account. ``has_ou_path`` is false when its OUs or their names could not be read."""

    account_id: str
    name: str | None = None
    email: str | None = None
    arn: str | None = None
    state: str | None = None
    ou_ids: tuple[str, ...] = ()
    ou_names: tuple[str, ...] = ()
    joined_at: dt.datetime | None = None
    is_management: bool = False
    tags: Mapping[str, str] | None = None
    """``None`` when they were not requested or could not be read."""
    selection: str = "crawled"
    has_ou_path: bool = True

    @property
    def crawled(self) -> bool:
        """Whether the account is crawled."""
        return self.selection == "crawled"


@dataclass(frozen=True, slots=True)
class Organization:
    """The discovered accounts. ``is_complete`` is true when they come from a complete listing of AWS Organizations."""

    accounts: tuple[FoundAccount, ...]
    organization_id: str | None = None
    management_account_id: str | None = None
    is_complete: bool = True
    gaps: tuple[tuple[Operation, str, AwsError], ...] = ()
    """Operation, subject and error of each failed call about the organization itself."""


async def discover(
    client: AwsClient, provider: CredentialProvider, identity: Identity, settings: OrganizationSettings, region: str
) -> Organization:
    """Return the accounts, each with its selection: crawled, excluded or suspended."""
    if settings.source == "list":
        configured = [FoundAccount(entry.id, entry.name, state=ACTIVE) for entry in settings.accounts]
        return Organization(_select(configured, settings), is_complete=False)
    gaps: list[tuple[Operation, str, AwsError]] = []
    reader = _Reader(client, provider, region, gaps)
    operation = DESCRIBE_ORGANIZATION
    try:
        described = await reader.items(DESCRIBE_ORGANIZATION, _organization_ids)
        operation = LIST_ACCOUNTS
        listed = await reader.items(LIST_ACCOUNTS, _listed_account)
    except AwsError as error:
        raise _organization_error(operation, error, identity) from error
    organization_id, management, accounts = _members(described, listed, gaps)
    if not accounts:
        # Every organization has a management account; an empty list would mark all known accounts as left.
        cause = gaps[-1][2] if gaps else invalid_response(LIST_ACCOUNTS, "not even the management account is listed")
        raise RequiredCallError("AWS Organizations returned no accounts", cause)
    accounts = await _read_paths(reader, accounts)
    tags = await _read_tags(reader, accounts, settings)
    found = [
        replace(account, is_management=account.account_id == management, tags=tags.get(account.account_id))
        for account in accounts
    ]
    is_complete = all(operation is not LIST_ACCOUNTS for operation, _, _ in gaps)
    return Organization(_select(found, settings, gaps), organization_id, management, is_complete, tuple(gaps))


@dataclass(frozen=True, slots=True)
class _Reader:
    client: AwsClient
    provider: CredentialProvider
    region: str
    gaps: list[tuple[Operation, str, AwsError]] = field(default_factory=list)

    async def items(
        self, operation: Operation, convert: Callable[[Mapping[str, Any]], T], subject: str = "", **values: str
    ) -> list[T]:
        """Return the converted items of a listing; an invalid item is a gap. Raises :class:`AwsError` if a call fails."""
        params = parameters(operation, Subject(Scope("", self.region), self.region, values=dict(values)))
        result: list[T] = []
        invalid: Exception | None = None
        async for page in self.client.pages(self.provider, operation, self.region, params):
            try:
                items = items_of(operation, page)
            except AwsError as error:
                invalid = invalid or error
                continue
            for item in items:
                try:
                    require(operation, item)
                    result.append(convert(item))
                except INVALID_ITEM as error:
                    invalid = invalid or error
        if invalid is not None:
            self.gaps.append((operation, subject, as_error(operation, invalid)))
        return result


def _organization_ids(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["Id"], item["MasterAccountId"]


def _listed_account(item: Mapping[str, Any]) -> FoundAccount:
    """Return an account as listed, with its path if the listing has it."""
    account_id, match = item["Id"], _ACCOUNT_ARN.fullmatch(item["Arn"])
    # State replaced Status in September 2026; older endpoints still return Status.
    state = item.get("State") or item.get("Status")
    if match is None or match["account"] != account_id:
        raise ValueError(f"{item['Arn'][:100]!r} is not the ARN of account {account_id[:100]!r}")
    return FoundAccount(
        account_id,
        item.get("Name"),
        item.get("Email"),
        item["Arn"],
        state,
        _ou_path(item.get("Paths") or ()),
        joined_at=item.get("JoinedTimestamp"),
    )


_ACCOUNT_ARN = re.compile(
    r"arn:[a-z-]+:organizations::(?P<management>\d{12}):account/(?P<organization>o-[a-z0-9]+)/(?P<account>\d{12})",
    re.ASCII,
)


def _members(
    described: Sequence[tuple[str, str]],
    listed: Sequence[FoundAccount],
    gaps: list[tuple[Operation, str, AwsError]],
) -> tuple[str | None, str | None, list[FoundAccount]]:
    """Return the organization's id, its management account and its accounts; what contradicts most ARNs is a gap."""
    ids = {account: _ACCOUNT_ARN.fullmatch(account.arn or "") for account in listed}
    counts = Counter((match["organization"], match["management"]) for match in ids.values() if match)
    if not counts:
        return None, None, []
    own = counts.most_common(1)[0][0]
    if described and described[0] != own:
        gaps.append((DESCRIBE_ORGANIZATION, "", invalid_response(DESCRIBE_ORGANIZATION, f"it is not {own[0]}")))
    accounts: dict[str, FoundAccount] = {}
    invalid: set[str] = set()
    for account, match in ids.items():
        known = accounts.setdefault(account.account_id, account)
        if known != account or (match and (match["organization"], match["management"]) != own):
            invalid.add(account.account_id)
    if invalid:
        reason = f"{', '.join(sorted(invalid)[:10])} are not accounts of {own[0]}, or listed with different values"
        gaps.append((LIST_ACCOUNTS, "", invalid_response(LIST_ACCOUNTS, reason)))
    return *own, [account for account in accounts.values() if account.account_id not in invalid]


async def _read_paths(reader: _Reader, accounts: Sequence[FoundAccount]) -> list[FoundAccount]:
    """Return the accounts with their OUs, which are walked; so are their accounts if ListAccounts returns no paths."""
    names: dict[str, str] = {}
    """Names of roots and organizational units by id."""
    paths = {account.account_id: account.ou_ids for account in accounts if account.ou_ids}
    walk_accounts = any(not account.ou_ids for account in accounts)
    operation = LIST_ROOTS
    try:
        waiting: list[tuple[tuple[str, ...], str]] = [
            ((unit,), name) for unit, name in await reader.items(LIST_ROOTS, _unit)
        ]
        while waiting:
            path, name = waiting.pop()
            parent = path[-1]
            if parent in names:
                # Listed twice, or as its own descendant.
                continue
            names[parent] = name
            if walk_accounts:
                operation = LIST_ACCOUNTS_OF_UNIT
                for account_id in await reader.items(LIST_ACCOUNTS_OF_UNIT, itemgetter("Id"), parent, parent=parent):
                    paths[account_id] = path
            operation = LIST_UNITS
            units = await reader.items(LIST_UNITS, _unit, parent, parent=parent)
            waiting.extend([((*path, unit), name) for unit, name in units])
    except AwsError as error:
        reader.gaps.append((operation, "", error))
    return [
        replace(
            account,
            ou_ids=path,
            ou_names=tuple(names.get(unit, unit) for unit in path),
            has_ou_path=bool(path) and all(unit in names for unit in path),
        )
        for account in accounts
        for path in [paths.get(account.account_id, ())]
    ]


def _unit(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return id and name of a root or organizational unit."""
    if not item["Id"].startswith(("r-", "ou-")):
        raise ValueError(f"{item['Id'][:100]!r} is not the id of a root or an organizational unit")
    return item["Id"], item["Name"]


def _ou_path(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of ``o-example/r-abcd/ou-abcd-11111111/`` from the root down, without organization and account."""
    for path in paths:
        parts = tuple(part for part in path.split("/") if part.startswith(("r-", "ou-")))
        if parts:
            return parts
    return ()


async def _read_tags(
    reader: _Reader, accounts: Iterable[FoundAccount], settings: OrganizationSettings
) -> dict[str, Mapping[str, str]]:
    """Read account tags, only when a filter uses them: they cost one call per account."""
    if not settings.include.tags and not settings.exclude.tags:
        return {}
    tags: dict[str, Mapping[str, str]] = {}
    for account in accounts:
        account_id, gaps = account.account_id, len(reader.gaps)
        try:
            items = await reader.items(LIST_ACCOUNT_TAGS, itemgetter("Key", "Value"), account_id, account_id=account_id)
        except AwsError as error:
            reader.gaps.append((LIST_ACCOUNT_TAGS, account_id, error))
        else:
            if len(reader.gaps) == gaps:
                tags[account_id] = dict(items)
    return tags


def _select(
    accounts: Iterable[FoundAccount],
    settings: OrganizationSettings,
    gaps: Iterable[tuple[Operation, str, AwsError]] = (),
) -> tuple[FoundAccount, ...]:
    """Set the selection of each account."""
    missing_tags = {subject for operation, subject, _ in gaps if operation is LIST_ACCOUNT_TAGS}
    include, exclude = settings.include, settings.exclude
    includes_all = not (include.accounts or include.ous or include.tags or include.names)
    filters_by_ou = settings.source == "organizations" and bool(include.ous or exclude.ous)

    def selection(account: FoundAccount) -> str:
        if account.state is not None and account.state != ACTIVE:
            return "suspended"
        if account.account_id in missing_tags or (filters_by_ou and not account.ou_ids):
            # The filter cannot be evaluated: skipping an account is better than crawling an excluded one.
            return "excluded"
        included = (includes_all or _matches(account, include)) and not _matches(account, exclude)
        return "crawled" if included else "excluded"

    return tuple(replace(account, selection=selection(account)) for account in accounts)


def _matches(account: FoundAccount, filters: AccountFilter) -> bool:
    return (
        account.account_id in filters.accounts
        or any(unit in filters.ous for unit in account.ou_ids)
        or any((account.tags or {}).get(key) in values for key, values in filters.tags.items())
        or any(fnmatch.fnmatchcase(account.name or "", pattern) for pattern in filters.names)
    )


async def read_organization(
    client: AwsClient, roles: Roles, identity: Identity, settings: Settings
) -> tuple[Organization, Regions]:
    """Return the accounts, and what lists their regions; both are read with the reader role, if there is one."""
    reader, region = settings.organization.reader_role, settings.aws.region
    provider: CredentialProvider = await roles.reader(reader) if reader else roles.own
    organization = await discover(client, provider, identity, settings.organization, region)
    return organization, Regions(client, provider, settings.regions, region, organization.management_account_id)


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """A region of an account: its opt-in status, and whether it is crawled, excluded or disabled."""

    region: str
    status: str
    selection: str


def excludes_region(settings: RegionSettings, region: str) -> bool:
    """Return whether the configuration excludes a region."""
    return region in settings.exclude or bool(settings.include and region not in settings.include)


def check_regions(settings: Settings) -> None:
    """Raise :class:`InvalidSettingsError` for regions in the settings that the installed botocore does not know."""
    known = known_regions()
    problems = []
    for key, names in (
        ("aws.region", (settings.aws.region,)),
        ("regions.include", settings.regions.include),
        ("regions.exclude", settings.regions.exclude),
    ):
        for name in sorted(set(names) - known):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else "correct it."
            problems.append(
                f"{key}: AWS has no region {name}: {hint} A new region needs a newer botocore (pip install --upgrade botocore)"
            )
    if problems:
        raise InvalidSettingsError("\n".join(problems))


class Regions:
    """Lists the regions of accounts, from the account itself or from the organization, each as the fallback of the other."""

    def __init__(
        self, client: AwsClient, hub: CredentialProvider, settings: RegionSettings, home: str, management: str | None
    ) -> None:
        self._client = client
        self._hub = hub
        self._settings = settings
        self._home = home
        self._management = management
        self._from_hub = management is not None

    async def of(self, account_id: str, provider: CredentialProvider) -> tuple[FoundRegion, ...]:
        """Return the account's regions; raises :class:`AwsError` when neither source returns them."""
        if self._settings.source == "account":
            return await self._of_organization(account_id) or await self._list(provider, DESCRIBE_REGIONS)
        try:
            return await self._list(provider, DESCRIBE_REGIONS)
        except AwsError:
            regions = await self._of_organization(account_id)
            if regions is None:
                raise
            return regions

    async def _of_organization(self, account_id: str) -> tuple[FoundRegion, ...] | None:
        """Return the regions as the organization lists them, or ``None`` if it does not."""
        own = account_id == self._hub.account_id
        # A delegated administrator cannot list the regions of the management account.
        if not self._from_hub or (account_id == self._management and not own):
            return None
        try:
            return await self._list(self._hub, LIST_OWN_REGIONS if own else LIST_REGIONS, account_id)
        except AwsError as error:
            if not error.retryable and error.cause is not Cause.INVALID_RESPONSE:
                # Trusted access is disabled, or the endpoint lacks the API: the next account would fail too.
                self._from_hub = False
            return None

    async def _list(
        self, provider: CredentialProvider, operation: Operation, account_id: str = ""
    ) -> tuple[FoundRegion, ...]:
        reader = _Reader(self._client, provider, self._home)
        statuses = dict(await reader.items(operation, _region_status, account_id=account_id))
        if reader.gaps:
            raise reader.gaps[0][2]
        if not statuses:
            raise invalid_response(operation, "it has no region; every account has some")
        return tuple(
            FoundRegion(region, status, self._selection(region, status)) for region, status in sorted(statuses.items())
        )

    def _selection(self, region: str, status: str) -> str:
        if excludes_region(self._settings, region):
            return "excluded"
        return "crawled" if status in ENABLED or status == "unknown" else "disabled"


def _region_status(item: Mapping[str, Any]) -> tuple[str, str]:
    if not REGION.fullmatch(item["RegionName"]):
        raise ValueError(f"{item['RegionName'][:100]!r} is not a region")
    return item["RegionName"], item.get("RegionOptStatus") or item.get("OptInStatus") or "unknown"


def _organization_error(operation: Operation, error: AwsError, identity: Identity) -> UserError:
    if error.code == "AWSOrganizationsNotInUseException":
        return OrganizationError(
            f"account {identity.account_id} is not part of an organization: list the accounts in organization.accounts "
            "and set organization.source to list"
        )
    if error.cause in _DENIALS:
        return OrganizationError(
            f"{identity.arn} may not read the organization ({operation.iam_action}: {error.cause.text}): run in the management "
            "account or a delegated administrator, correct organization.reader_role, or attach the policy of `kmsledger "
            "permissions --role management`"
        )
    return RequiredCallError("the organization cannot be read", error)


_DENIALS = frozenset(
    {
        Cause.DENIED,
        Cause.ROLE_PERMISSION,
        Cause.KEY_POLICY,
        Cause.SERVICE_CONTROL_POLICY,
        Cause.SESSION_POLICY,
        Cause.PERMISSIONS_BOUNDARY,
        Cause.EXPLICIT_DENY,
        Cause.ROLE_MISSING_OR_UNTRUSTED,
        Cause.TRUST,
        Cause.ASSUME_ROLE_PERMISSION,
    }
)
