"""Discovers accounts, organizational units and regions: the scopes of a crawl.

Sources: AWS Organizations (DescribeOrganization, ListAccounts, ListRoots, ListOrganizationalUnitsForParent,
ListAccountsForParent, ListTagsForResource), AWS Account Management (ListRegions), EC2 (DescribeRegions).
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crawler.aws.client import AwsClient, CredentialProvider, parameters
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
"""The management account must not pass its own id; without an id the API uses the caller's account."""
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
"""Opt-in statuses of regions to crawl; a region in transition may or may not respond."""
ACTIVE = "ACTIVE"


class OrganizationError(UserError):
    """The organization cannot be read."""

    exit_code = 4


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
        accounts = tuple(
            FoundAccount(entry.id, entry.name, state=ACTIVE, is_management=False) for entry in settings.accounts
        )
        return Organization(_select(accounts, settings), is_complete=False)
    reader = _Reader(client, provider, region)
    try:
        organization = (await reader.call(DESCRIBE_ORGANIZATION)).get("Organization") or {}
        listed = [account async for account in reader.items(LIST_ACCOUNTS)]
    except AwsError as error:
        raise _organization_error(error, identity) from error
    if not listed:
        # Every organization has a management account; an empty list would mark all known accounts as left.
        raise OrganizationError(
            "the organization cannot be read: AWS Organizations returned no accounts, not even the management account"
        )
    management = organization.get("MasterAccountId")
    gaps: list[tuple[Operation, str, AwsError]] = []
    tree = await _read_tree(reader, listed, gaps)
    tags = await _read_tags(reader, listed, settings, gaps)
    accounts = tuple(_account(account, management, tree, tags) for account in listed)
    return Organization(_select(accounts, settings, gaps), organization.get("Id"), management, gaps=tuple(gaps))


@dataclass(frozen=True, slots=True)
class _Reader:
    client: AwsClient
    provider: CredentialProvider
    region: str

    async def call(self, operation: Operation) -> Mapping[str, Any]:
        return await self.client.call(self.provider, operation, self.region, {})

    async def items(self, operation: Operation, **values: str) -> Any:
        params = parameters(operation, Subject(Scope("", self.region), self.region, values=dict(values)))
        async for page in self.client.pages(self.provider, operation, self.region, params):
            for item in page.get(operation.items) or ():
                yield item


@dataclass(frozen=True, slots=True)
class _Tree:
    names: Mapping[str, str]
    """Names of roots and organizational units by id."""
    paths: Mapping[str, tuple[str, ...]]
    """Ids from the root down to the account's OU, by account id."""


async def _read_tree(
    reader: _Reader, listed: Iterable[Mapping[str, Any]], gaps: list[tuple[Operation, str, AwsError]]
) -> _Tree:
    """Read the OUs and their accounts; the accounts are not walked if ListAccounts returns their paths."""
    names: dict[str, str] = {}
    paths: dict[str, tuple[str, ...]] = {}
    listed_paths = {account["Id"]: _ou_path(account) for account in listed}
    walk_accounts = not all(listed_paths.values())
    paths.update({account_id: path for account_id, path in listed_paths.items() if path})
    operation = LIST_ROOTS
    try:
        waiting: list[tuple[tuple[str, ...], str | None]] = [
            ((root["Id"],), root.get("Name")) async for root in reader.items(LIST_ROOTS)
        ]
        while waiting:
            path, name = waiting.pop()
            names[path[-1]] = name or path[-1]
            if walk_accounts:
                operation = LIST_ACCOUNTS_OF_UNIT
                async for account in reader.items(LIST_ACCOUNTS_OF_UNIT, parent=path[-1]):
                    paths[account["Id"]] = path
            operation = LIST_UNITS
            waiting.extend(
                [((*path, unit["Id"]), unit.get("Name")) async for unit in reader.items(LIST_UNITS, parent=path[-1])]
            )
    except AwsError as error:
        gaps.append((operation, "", error))
    return _Tree(names, paths)


def _ou_path(account: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of ``o-example/r-abcd/ou-abcd-11111111/`` from the root down, without organization and account."""
    for path in account.get("Paths") or ():
        parts = tuple(part for part in path.split("/") if part.startswith(("r-", "ou-")))
        if parts:
            return parts
    return ()


async def _read_tags(
    reader: _Reader,
    listed: Iterable[Mapping[str, Any]],
    settings: OrganizationSettings,
    gaps: list[tuple[Operation, str, AwsError]],
) -> dict[str, Mapping[str, str]]:
    """Read account tags, only when a filter uses them: they cost one call per account."""
    if not settings.include.tags and not settings.exclude.tags:
        return {}
    tags: dict[str, Mapping[str, str]] = {}
    for account in listed:
        try:
            account_tags = [tag async for tag in reader.items(LIST_ACCOUNT_TAGS, account_id=account["Id"])]
            tags[account["Id"]] = {tag["Key"]: tag["Value"] for tag in account_tags}
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
        # State replaced Status in September 2026; older endpoints still return Status.
        account.get("State") or account.get("Status"),
        path,
        tuple(tree.names.get(unit, unit) for unit in path),
        account.get("JoinedTimestamp"),
        account_id == management,
        tags.get(account_id),
        has_ou_path=bool(path) and all(unit in tree.names for unit in path),
    )


def _select(
    accounts: Iterable[FoundAccount],
    settings: OrganizationSettings,
    gaps: Iterable[tuple[Operation, str, AwsError]] = (),
) -> tuple[FoundAccount, ...]:
    """Set the selection of each account."""
    missing_tags = {subject for operation, subject, _ in gaps if operation is LIST_ACCOUNT_TAGS}
    selected = []
    for account in accounts:
        if account.state is not None and account.state != ACTIVE:
            selected.append(replace(account, selection="suspended"))
        elif account.account_id in missing_tags or (not account.ou_ids and _filters_by_ou(settings)):
            # The filter cannot be evaluated: skipping an account is better than crawling an excluded one.
            selected.append(replace(account, selection="excluded"))
        elif _is_included(account, settings.include) and not _matches(account, settings.exclude):
            selected.append(account)
        else:
            selected.append(replace(account, selection="excluded"))
    return tuple(selected)


def _filters_by_ou(settings: OrganizationSettings) -> bool:
    return settings.source == "organizations" and bool(settings.include.ous or settings.exclude.ous)


def _is_included(account: FoundAccount, filters: AccountFilter) -> bool:
    has_filter = filters.accounts or filters.ous or filters.tags or filters.names
    return not has_filter or _matches(account, filters)


def _matches(account: FoundAccount, filters: AccountFilter) -> bool:
    return (
        account.account_id in filters.accounts
        or any(unit in filters.ous for unit in account.ou_ids)
        or any((account.tags or {}).get(key) in values for key, values in filters.tags.items())
        or any(fnmatch.fnmatchcase(account.name or "", pattern) for pattern in filters.names)
    )


@dataclass(frozen=True, slots=True)
class FoundRegion:
    """A region of an account: its opt-in status, and whether it is crawled, excluded or disabled."""

    region: str
    status: str
    selection: str


def excludes_region(settings: RegionSettings, region: str) -> bool:
    """Return whether the configuration excludes a region."""
    return region in settings.exclude or bool(settings.include and region not in settings.include)


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
            if not error.retryable:
                # Trusted access is disabled, or the endpoint lacks the API: the next account would fail too.
                self._from_hub = False
            return None

    async def _list(
        self, provider: CredentialProvider, operation: Operation, account_id: str = ""
    ) -> tuple[FoundRegion, ...]:
        reader = _Reader(self._client, provider, self._home)
        statuses = {
            region["RegionName"]: region.get("RegionOptStatus") or region.get("OptInStatus") or "unknown"
            async for region in reader.items(operation, account_id=account_id)
        }
        if not statuses:
            raise AwsError(
                Cause.INVALID_RESPONSE, "MissingMember", f"{operation} returned no region; every account has some"
            )
        return tuple(
            FoundRegion(region, status, self._selection(region, status)) for region, status in sorted(statuses.items())
        )

    def _selection(self, region: str, status: str) -> str:
        if excludes_region(self._settings, region):
            return "excluded"
        return "crawled" if status in ENABLED or status == "unknown" else "disabled"


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
        return OrganizationError(f"AWS Organizations is unreachable: {error.message}")
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
