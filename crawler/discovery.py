"""Accounts, organizational units and regions -> the scopes of a crawl.

Sources: AWS Organizations (DescribeOrganization, ListAccounts, ListRoots, ListOrganizationalUnitsForParent,
ListAccountsForParent, ListTagsForResource), AWS Account Management (ListRegions), EC2 (DescribeRegions).
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crawler.aws.client import Access, Door, parameters
from crawler.aws.credentials import Identity
from crawler.aws.errors import AwsError
from crawler.spec import Operation, Paging, Scope, Subject
from models.errors import UserError
from models.settings import AccountFilter, OrganizationSettings, RegionSettings
from models.tables.runs import Cause

_ORGANIZATION_PAGES = Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=20)

DESCRIBE_ORGANIZATION = Operation("organizations", "DescribeOrganization", items="Organization", caller="hub")
LIST_ACCOUNTS = Operation("organizations", "ListAccounts", items="Accounts", paging=_ORGANIZATION_PAGES, caller="hub")
LIST_ROOTS = Operation("organizations", "ListRoots", items="Roots", paging=_ORGANIZATION_PAGES, caller="hub")
LIST_UNITS = Operation(
    "organizations",
    "ListOrganizationalUnitsForParent",
    {"ParentId": "@parent"},
    items="OrganizationalUnits",
    paging=_ORGANIZATION_PAGES,
    caller="hub",
)
LIST_ACCOUNTS_OF_UNIT = Operation(
    "organizations",
    "ListAccountsForParent",
    {"ParentId": "@parent"},
    items="Accounts",
    paging=_ORGANIZATION_PAGES,
    caller="hub",
)
LIST_ACCOUNT_TAGS = Operation(
    "organizations",
    "ListTagsForResource",
    {"ResourceId": "@account_id"},
    items="Tags",
    paging=Paging(receive="NextToken", send="NextToken"),
    caller="hub",
)
LIST_REGIONS = Operation(
    "account",
    "ListRegions",
    {"AccountId": "@account_id"},
    items="Regions",
    paging=Paging(receive="NextToken", send="NextToken", limit="MaxResults", size=50),
    caller="hub",
)
LIST_OWN_REGIONS = replace(LIST_REGIONS, params={})
"""The management account must not name itself; without an id the caller's own account is meant."""
DESCRIBE_REGIONS = Operation("ec2", "DescribeRegions", {"AllRegions": True}, items="Regions")
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

ENABLED = frozenset({"ENABLED", "ENABLED_BY_DEFAULT", "ENABLING", "DISABLING", "opt-in-not-required", "opted-in"})
"""Opt-in statuses of a region worth asking; one that is being switched may answer or not."""
ACTIVE = "ACTIVE"


class OrganizationError(UserError):
    """The organization cannot be read."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """An account as discovered. ``placed`` is false when its OUs, or their names, could not be learned."""

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
    """``None`` when they were not asked, or could not be."""
    selection: str = "crawled"
    placed: bool = True

    @property
    def crawled(self) -> bool:
        """Whether its scopes are to be crawled."""
        return self.selection == "crawled"


@dataclass(frozen=True, slots=True)
class Organization:
    """Everything that was discovered. ``listed`` says that the accounts come from a complete listing of AWS Organizations."""

    accounts: tuple[FoundAccount, ...]
    organization_id: str | None = None
    management_account_id: str | None = None
    listed: bool = True
    gaps: tuple[tuple[Operation, str, AwsError], ...] = ()
    """Operation, subject and error of what could not be learned of the organization itself."""


async def discover(
    door: Door, access: Access, identity: Identity, settings: OrganizationSettings, region: str
) -> Organization:
    """The accounts, each with whether it is to be crawled or why not."""
    if settings.source == "list":
        found = tuple(
            FoundAccount(entry.id, entry.name, state=ACTIVE, is_management=False) for entry in settings.accounts
        )
        return Organization(_select(found, settings), listed=False)
    reader = _Reader(door, access, region)
    try:
        organization = (await reader.one(DESCRIBE_ORGANIZATION)).get("Organization") or {}
        listed = [account async for account in reader.items(LIST_ACCOUNTS)]
    except AwsError as error:
        raise _organization_error(error, identity) from error
    if not listed:
        # It has its management account at least; an empty list would send every known account away.
        raise OrganizationError(
            "the organization cannot be read: AWS Organizations listed no accounts, not even its own"
        )
    management = organization.get("MasterAccountId")
    gaps: list[tuple[Operation, str, AwsError]] = []
    tree = await _tree(reader, listed, gaps)
    tags = await _tags(reader, listed, settings, gaps)
    found = tuple(_account(account, management, tree, tags) for account in listed)
    return Organization(_select(found, settings, gaps), organization.get("Id"), management, gaps=tuple(gaps))


@dataclass(frozen=True, slots=True)
class _Reader:
    door: Door
    access: Access
    region: str

    async def one(self, operation: Operation) -> Mapping[str, Any]:
        return await self.door.call(self.access, operation, self.region, {})

    async def items(self, operation: Operation, **values: str) -> Any:
        asked = parameters(operation, Subject(Scope("", self.region), self.region, values=dict(values)))
        async for page in self.door.pages(self.access, operation, self.region, asked):
            for item in page.get(operation.items) or ():
                yield item


@dataclass(frozen=True, slots=True)
class _Tree:
    names: Mapping[str, str]
    """Name by id of roots and organizational units."""
    paths: Mapping[str, tuple[str, ...]]
    """Ids from the root down to the unit that holds the account, by account id."""


async def _tree(
    reader: _Reader, listed: Iterable[Mapping[str, Any]], gaps: list[tuple[Operation, str, AwsError]]
) -> _Tree:
    """Units and who is in them; the walk through accounts is spared where ListAccounts tells the paths itself."""
    names: dict[str, str] = {}
    paths: dict[str, tuple[str, ...]] = {}
    told = {account["Id"]: _told_path(account) for account in listed}
    walk_accounts = not all(told.values())
    paths.update({account_id: path for account_id, path in told.items() if path})
    asking = LIST_ROOTS
    try:
        waiting: list[tuple[tuple[str, ...], str | None]] = [
            ((root["Id"],), root.get("Name")) async for root in reader.items(LIST_ROOTS)
        ]
        while waiting:
            path, name = waiting.pop()
            names[path[-1]] = name or path[-1]
            if walk_accounts:
                asking = LIST_ACCOUNTS_OF_UNIT
                async for account in reader.items(LIST_ACCOUNTS_OF_UNIT, parent=path[-1]):
                    paths[account["Id"]] = path
            asking = LIST_UNITS
            waiting.extend(
                [((*path, unit["Id"]), unit.get("Name")) async for unit in reader.items(LIST_UNITS, parent=path[-1])]
            )
    except AwsError as error:
        gaps.append((asking, "", error))
    return _Tree(names, paths)


def _told_path(account: Mapping[str, Any]) -> tuple[str, ...]:
    """``o-example/r-abcd/ou-abcd-11111111/`` -> ids from the root down, without organization and account."""
    for path in account.get("Paths") or ():
        parts = tuple(part for part in path.split("/") if part.startswith(("r-", "ou-")))
        if parts:
            return parts
    return ()


async def _tags(
    reader: _Reader,
    listed: Iterable[Mapping[str, Any]],
    settings: OrganizationSettings,
    gaps: list[tuple[Operation, str, AwsError]],
) -> dict[str, Mapping[str, str]]:
    """Account tags, asked only when a filter is about tags: it costs a call an account."""
    if not settings.include.tags and not settings.exclude.tags:
        return {}
    tags: dict[str, Mapping[str, str]] = {}
    for account in listed:
        try:
            found = [tag async for tag in reader.items(LIST_ACCOUNT_TAGS, account_id=account["Id"])]
            tags[account["Id"]] = {tag["Key"]: tag["Value"] for tag in found}
        except AwsError as error:
            gaps.append((LIST_ACCOUNT_TAGS, account["Id"], error))
    return tags


def _account(
    account: Mapping[str, Any], management: str | None, tree: _Tree, tags: Mapping[str, Mapping[str, str]]
) -> FoundAccount:
    account_id = account["Id"]
    path = tree.paths.get(account_id, ())
    return FoundAccount(
        account_id,
        account.get("Name"),
        account.get("Email"),
        account.get("Arn"),
        # Status was retired in September 2026 in favour of State; older endpoints still speak it.
        account.get("State") or account.get("Status"),
        path,
        tuple(tree.names.get(unit, unit) for unit in path),
        account.get("JoinedTimestamp"),
        account_id == management,
        tags.get(account_id),
        placed=bool(path) and all(unit in tree.names for unit in path),
    )


def _select(
    accounts: Iterable[FoundAccount],
    settings: OrganizationSettings,
    gaps: Iterable[tuple[Operation, str, AwsError]] = (),
) -> tuple[FoundAccount, ...]:
    """Decide for each account whether it is crawled."""
    missing_tags = {subject for operation, subject, _ in gaps if operation is LIST_ACCOUNT_TAGS}
    selected = []
    for account in accounts:
        if account.state is not None and account.state != ACTIVE:
            selected.append(replace(account, selection="suspended"))
        elif account.account_id in missing_tags or (not account.ou_ids and _about_units(settings)):
            # What decides is not known: reading an account that was to be left out would be the worse mistake.
            selected.append(replace(account, selection="excluded"))
        elif _is_included(account, settings.include) and not _matches(account, settings.exclude):
            selected.append(account)
        else:
            selected.append(replace(account, selection="excluded"))
    return tuple(selected)


def _about_units(settings: OrganizationSettings) -> bool:
    return settings.source == "organizations" and bool(settings.include.ous or settings.exclude.ous)


def _is_included(account: FoundAccount, wanted: AccountFilter) -> bool:
    anything = wanted.accounts or wanted.ous or wanted.tags or wanted.names
    return not anything or _matches(account, wanted)


def _matches(account: FoundAccount, wanted: AccountFilter) -> bool:
    return (
        account.account_id in wanted.accounts
        or any(unit in wanted.ous for unit in account.ou_ids)
        or any((account.tags or {}).get(key) in values for key, values in wanted.tags.items())
        or any(fnmatch.fnmatchcase(account.name or "", pattern) for pattern in wanted.names)
    )


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """A region of an account: its opt-in status, and whether it is crawled, excluded or disabled."""

    region: str
    status: str
    selection: str


def excludes_region(settings: RegionSettings, region: str) -> bool:
    """Whether the configuration leaves a region out."""
    return region in settings.exclude or bool(settings.include and region not in settings.include)


class Regions:
    """Finds the regions of accounts: from the account itself and from the organization, one standing in for the other."""

    def __init__(self, door: Door, hub: Access, settings: RegionSettings, home: str, management: str | None) -> None:
        self._door = door
        self._hub = hub
        self._settings = settings
        self._home = home
        self._management = management
        self._from_hub = management is not None

    async def of(self, account_id: str, access: Access) -> tuple[FoundRegion, ...]:
        """The account's regions, or :class:`AwsError` when neither way answers."""
        if self._settings.source == "account":
            return await self._of_organization(account_id) or await self._of_account(access)
        try:
            return await self._of_account(access)
        except AwsError:
            found = await self._of_organization(account_id)
            if found is None:
                raise
            return found

    async def _of_account(self, access: Access) -> tuple[FoundRegion, ...]:
        found = await self._ask(access, DESCRIBE_REGIONS, {})
        return self._selected({region["RegionName"]: region.get("OptInStatus") or "unknown" for region in found})

    async def _of_organization(self, account_id: str) -> tuple[FoundRegion, ...] | None:
        """As the organization knows them; ``None`` when it does not tell."""
        # A delegated administrator cannot ask about the management account.
        if not self._from_hub or (account_id == self._management and account_id != self._hub.account_id):
            return None
        try:
            return await self._listed(account_id)
        except AwsError as error:
            if not error.retryable:
                # Trusted access is not enabled, or the endpoint has no such API: it will not be for the next account.
                self._from_hub = False
            return None

    async def _listed(self, account_id: str) -> tuple[FoundRegion, ...]:
        own = account_id == self._hub.account_id
        found = await self._ask(
            self._hub, LIST_OWN_REGIONS if own else LIST_REGIONS, {} if own else {"account_id": account_id}
        )
        return self._selected({region["RegionName"]: region["RegionOptStatus"] for region in found})

    async def _ask(self, access: Access, operation: Operation, values: Mapping[str, str]) -> list[Mapping[str, Any]]:
        asked = parameters(operation, Subject(Scope("", self._home), self._home, values=dict(values)))
        found = [
            region
            async for page in self._door.pages(access, operation, self._home, asked)
            for region in page.get(operation.items) or ()
        ]
        if not found:
            raise AwsError(
                Cause.INVALID_RESPONSE, "MissingMember", f"{operation} listed no region; every account has some"
            )
        return found

    def _selected(self, statuses: Mapping[str, str]) -> tuple[FoundRegion, ...]:
        def selection(region: str, status: str) -> str:
            if excludes_region(self._settings, region):
                return "excluded"
            return "crawled" if status in ENABLED or status == "unknown" else "disabled"

        return tuple(
            FoundRegion(region, status, selection(region, status)) for region, status in sorted(statuses.items())
        )


def _organization_error(error: AwsError, identity: Identity) -> OrganizationError:
    if error.code == "AWSOrganizationsNotInUseException":
        return OrganizationError(
            f"account {identity.account_id} is not part of an organization: list the accounts in organization.accounts "
            "and set organization.source to list"
        )
    if error.cause in _DENIALS:
        return OrganizationError(
            f"{identity.arn} may not read the organization ({error.cause.text}): run in the management account or a delegated "
            "administrator, set organization.reader_role, or attach the policy of `kmsledger permissions --role management`"
        )
    if error.cause is Cause.UNREACHABLE:
        return OrganizationError(f"AWS Organizations cannot be reached: {error.message}")
    return OrganizationError(f"the organization cannot be read: {error.code}: {error.message}")


_DENIALS = frozenset(
    {
        Cause.DENIED,
        Cause.ROLE_PERMISSION,
        Cause.KEY_POLICY,
        Cause.SERVICE_CONTROL_POLICY,
        Cause.SESSION_POLICY,
        Cause.PERMISSIONS_BOUNDARY,
        Cause.EXPLICIT_DENY,
    }
)
