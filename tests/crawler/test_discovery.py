"""Discovery of accounts and OUs: their selection, and the handling of failed calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from crawler import discovery as org
from crawler.account_facts import account_batch
from crawler.aws.credentials import Identity
from crawler.aws.errors import AwsError, RequiredCallError
from models.errors import UserError
from models.settings import OrganizationSettings
from models.tables.organization import Account
from models.tables.runs import Cause, Gap
from tests.crawler.empty_ledger import Ledger
from tests.crawler.scripted_aws import (
    Answer,
    Caller,
    RecordedCall,
    Result,
    ScriptedAws,
    aws_error,
    client_for,
    denied,
    paged,
)

MANAGEMENT, SHOP, LAB, OLD = "123456789012", "111122223333", "444455556666", "777788889999"
IDENTITY = Identity(f"arn:aws:sts::{MANAGEMENT}:assumed-role/crawler/session", MANAGEMENT)
ROOT, PRODUCTION, WEB, SANDBOX = "r-abcd", "ou-abcd-11111111", "ou-abcd-22222222", "ou-abcd-33333333"
TREE = {ROOT: (PRODUCTION, SANDBOX), PRODUCTION: (WEB,), WEB: (), SANDBOX: ()}
UNITS = {PRODUCTION: "Production", WEB: "Web", SANDBOX: "Sandbox"}
OU_PATHS = {MANAGEMENT: (ROOT,), SHOP: (ROOT, PRODUCTION, WEB), LAB: (ROOT, SANDBOX), OLD: (ROOT, SANDBOX)}
NAMES = {MANAGEMENT: "main", SHOP: "web-shop", LAB: "lab-1", OLD: "lab-0"}
TAGS = {SHOP: {"stage": "prod"}, LAB: {"stage": "test"}}


def entry(account_id: str, *, with_path: bool = False, **values: Any) -> dict[str, Any]:
    """Return an account as in ListAccounts, optionally with its path."""
    state = "SUSPENDED" if account_id == OLD else "ACTIVE"
    account = {"Id": account_id, "Name": NAMES[account_id], "State": state, "Email": f"{account_id}@example.com"}
    account["Arn"] = f"arn:aws:organizations::{MANAGEMENT}:account/o-example/{account_id}"
    if with_path:
        values["Paths"] = ["o-example/" + "/".join(OU_PATHS[account_id]) + "/"]
    return account | values


def organization(
    pages: Sequence[Sequence[Any]] | None = None, answers: Mapping[str, Answer] | None = None
) -> ScriptedAws:
    """Return a scripted AWS Organizations."""

    def units(call: RecordedCall) -> Result:
        return {"OrganizationalUnits": [{"Id": unit, "Name": UNITS[unit]} for unit in TREE[call["ParentId"]]]}

    def accounts_of_unit(call: RecordedCall) -> Result:
        return {
            "Accounts": [entry(account_id) for account_id, path in OU_PATHS.items() if path[-1] == call["ParentId"]]
        }

    def tags(call: RecordedCall) -> Result:
        return {"Tags": [{"Key": key, "Value": value} for key, value in TAGS.get(call["ResourceId"], {}).items()]}

    listed = pages or [[entry(MANAGEMENT), entry(SHOP)], [], [entry(LAB), entry(OLD)]]
    return ScriptedAws(
        {
            "organizations:DescribeOrganization": {"Organization": {"Id": "o-example", "MasterAccountId": MANAGEMENT}},
            "organizations:ListAccounts": paged("Accounts", listed, send="NextToken", receive="NextToken"),
            "organizations:ListRoots": {"Roots": [{"Id": ROOT, "Name": "Root"}]},
            "organizations:ListOrganizationalUnitsForParent": units,
            "organizations:ListAccountsForParent": accounts_of_unit,
            "organizations:ListTagsForResource": tags,
            **{f"organizations:{name}": answer for name, answer in (answers or {}).items()},
        }
    )


def discovered(aws: ScriptedAws, **settings: Any) -> org.Organization:
    """Discover the organization with these settings."""
    organization_settings = OrganizationSettings.model_validate(settings)

    async def discover() -> org.Organization:
        return await org.discover(client_for(aws), Caller(MANAGEMENT), IDENTITY, organization_settings, "us-east-1")

    return asyncio.run(discover())


def selection(aws: ScriptedAws, **settings: Any) -> dict[str, str]:
    """Return the selection of each account."""
    return {account.account_id: account.selection for account in discovered(aws, **settings).accounts}


WITH_PATHS = [[entry(account_id, with_path=True) for account_id in OU_PATHS]]


def test_accounts_are_listed_from_every_page_with_their_ous() -> None:
    """Empty pages do not end the listing, OUs are walked at all levels, a suspended account is kept but not crawled."""
    result = discovered(organization())
    assert (result.organization_id, result.management_account_id, result.is_complete, result.gaps) == (
        "o-example",
        MANAGEMENT,
        True,
        (),
    )
    assert {account.account_id: account.ou_ids for account in result.accounts} == OU_PATHS
    names = {account.account_id: account.ou_names for account in result.accounts}
    assert names[SHOP] == ("Root", "Production", "Web")
    assert [account.account_id for account in result.accounts if account.is_management] == [MANAGEMENT]
    assert {account.account_id: account.selection for account in result.accounts} == {
        MANAGEMENT: "crawled",
        SHOP: "crawled",
        LAB: "crawled",
        OLD: "suspended",
    }


def test_paths_in_list_accounts_save_the_walk() -> None:
    """If ListAccounts returns the paths, ListAccountsForParent is not called; names still come from the OUs."""
    aws = organization(WITH_PATHS)
    result = discovered(aws)
    assert aws.of("organizations:ListAccountsForParent") == []
    assert {account.account_id: account.ou_ids for account in result.accounts} == OU_PATHS
    assert all(account.has_ou_path for account in result.accounts)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, "crawled"),
        ({"State": None, "Status": "SUSPENDED"}, "suspended"),
        ({"State": None, "Status": "ACTIVE"}, "crawled"),
        ({"State": "PENDING_CLOSURE"}, "suspended"),
        ({"State": "CLOSED"}, "suspended"),
        ({"State": "PENDING_ACTIVATION"}, "suspended"),
        ({"State": None}, "crawled"),
    ],
)
def test_the_state_of_an_account(values: dict[str, Any], expected: str) -> None:
    """State decides, or the retired Status if State is missing; an account without either is crawled."""
    assert selection(organization([[entry(SHOP, **values)]])) == {SHOP: expected}


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {MANAGEMENT, SHOP, LAB}),
    ({"include": {"accounts": [SHOP]}}, {SHOP}),
    ({"exclude": {"accounts": [SHOP]}}, {MANAGEMENT, LAB}),
    ({"include": {"ous": [PRODUCTION]}}, {SHOP}),
    ({"exclude": {"ous": [PRODUCTION]}}, {MANAGEMENT, LAB}),
    ({"include": {"ous": [ROOT]}, "exclude": {"ous": [SANDBOX]}}, {MANAGEMENT, SHOP}),
    ({"include": {"tags": {"stage": ["prod", "test"]}}}, {SHOP, LAB}),
    ({"exclude": {"tags": {"stage": ["test"]}}}, {MANAGEMENT, SHOP}),
    ({"include": {"names": ["lab-*"]}}, {LAB}),
    ({"exclude": {"names": ["*-?", "web*"]}}, {MANAGEMENT}),
    ({"include": {"accounts": [LAB], "ous": [WEB]}}, {LAB, SHOP}),
    ({"include": {"accounts": [OLD]}}, set()),
]


@pytest.mark.parametrize(("settings", "crawled"), FILTERS)
@pytest.mark.parametrize("pages", [None, WITH_PATHS], ids=["walk", "paths"])
def test_filters_select_accounts(settings: dict[str, Any], crawled: set[str], pages: Any) -> None:
    """Filters match by id, OU subtree, tag and name; exclusions apply after inclusions."""
    selected = selection(organization(pages), **settings)
    assert {account for account, value in selected.items() if value == "crawled"} == crawled
    assert selected[OLD] == "suspended"


def test_tags_cost_calls_only_when_a_filter_needs_them() -> None:
    """ListTagsForResource costs one call per account and is called only for a tag filter."""
    aws = organization()
    discovered(aws)
    assert aws.of("organizations:ListTagsForResource") == []
    discovered(aws, include={"tags": {"stage": ["prod"]}})
    assert len(aws.of("organizations:ListTagsForResource")) == len(OU_PATHS)


@pytest.mark.parametrize("side", ["include", "exclude"])
def test_an_account_with_denied_tags_is_excluded_with_a_gap(side: str) -> None:
    """The filter cannot be evaluated: the account is not crawled, and the gap records why."""
    aws = organization(answers={"ListTagsForResource": denied("organizations:ListTagsForResource")})
    result = discovered(aws, **{side: {"tags": {"stage": ["prod"]}}})
    assert {account.account_id for account in result.accounts if account.crawled} == set()
    assert {subject for _, subject, _ in result.gaps} == set(OU_PATHS)


def test_a_list_of_accounts_makes_no_organizations_call() -> None:
    """source: list makes no call, uses the configured names, and marks no account as left."""
    aws = ScriptedAws({})
    result = discovered(aws, source="list", accounts=[{"id": SHOP, "name": "shop"}, LAB], exclude={"names": ["sh*"]})
    assert aws.calls == []
    assert [(account.account_id, account.name, account.selection) for account in result.accounts] == [
        (SHOP, "shop", "excluded"),
        (LAB, None, "crawled"),
    ]
    assert (result.is_complete, result.management_account_id) == (False, None)


WALKS = [
    ("ListRoots", False),
    ("ListOrganizationalUnitsForParent", False),
    ("ListAccountsForParent", False),
    ("ListRoots", True),
]


@pytest.mark.parametrize(("operation", "with_paths"), WALKS)
def test_a_denied_walk_is_a_gap_and_keeps_the_last_known_ou(ledger: Ledger, operation: str, with_paths: bool) -> None:
    """All accounts are crawled without their OUs; the ledger keeps the known path and records the denied operation."""
    batch, _, _ = account_batch(ledger.engine, discovered(organization()), MANAGEMENT)
    ledger.record_run(batch, {})
    result = discovered(
        organization(WITH_PATHS if with_paths else None, {operation: denied(f"organizations:{operation}")})
    )
    assert sum(account.crawled for account in result.accounts) == 3
    batch, gaps, _ = account_batch(ledger.engine, result, MANAGEMENT)
    ledger.record_run(batch, {})
    assert gaps == 1
    paths = {row["account_id"]: (row["ou_path"], row["ou_ids"]) for row in ledger.current(Account)}
    assert paths[SHOP] == ("/Production/Web", "/".join(OU_PATHS[SHOP]))
    assert len(ledger.rows(Account)) == len(OU_PATHS)
    (gap,) = ledger.current(Gap)
    assert (gap["operation"], gap["cause"]) == (operation, str(Cause.KEY_POLICY))


def test_an_ou_filter_needs_the_ous() -> None:
    """Without OUs the accounts are excluded; with paths in ListAccounts the ids decide even if names are denied."""
    filters: dict[str, Any] = {"exclude": {"ous": [SANDBOX]}}
    roots_denied = {"ListRoots": denied("organizations:ListRoots")}
    walked = selection(organization(answers=roots_denied), **filters)
    assert set(walked.values()) == {"excluded", "suspended"}
    listed = selection(organization(WITH_PATHS, roots_denied), **filters)
    assert listed == {MANAGEMENT: "crawled", SHOP: "crawled", LAB: "excluded", OLD: "suspended"}


def test_an_account_that_left_is_marked_as_left(ledger: Ledger) -> None:
    """An account missing from a complete listing is marked as left; its facts stay open."""
    batch, _, _ = account_batch(ledger.engine, discovered(organization()), MANAGEMENT)
    ledger.record_run(batch, {})
    fewer = discovered(organization([[entry(MANAGEMENT), entry(SHOP)]]))
    batch, _, left = account_batch(ledger.engine, fewer, MANAGEMENT)
    assert left == (LAB, OLD)
    ledger.record_run(batch, {})
    (lab,) = ledger.current(Account, account_id=LAB)
    assert (lab["state"], lab["selection"], lab["name"], lab["ou_path"]) == ("LEFT", "left", "lab-1", "/Sandbox")
    _, _, left = account_batch(ledger.engine, replace(fewer, is_complete=False), MANAGEMENT)
    assert left == ()


ERRORS: list[tuple[str, AwsError, int, tuple[str, ...]]] = [
    (
        "DescribeOrganization",
        aws_error("AWSOrganizationsNotInUseException", "Your account is not a member of an organization."),
        2,
        (MANAGEMENT, "not part of an organization", "organization.source"),
    ),
    (
        "ListAccounts",
        aws_error("AccessDeniedException", "You don't have permissions to provider this resource."),
        2,
        (IDENTITY.arn, "may not read the organization", "organization.reader_role", "permissions --role management"),
    ),
    ("ListAccounts", aws_error("ThrottlingException", "Rate exceeded"), 4, ("cannot be read", "ThrottlingException")),
    (
        "DescribeOrganization",
        AwsError(Cause.UNREACHABLE, "EndpointConnectionError", "Could not connect"),
        4,
        ("cannot be read", "Could not connect", "network"),
    ),
]


@pytest.mark.parametrize(("operation", "error", "exit_code", "expected"), ERRORS)
def test_a_failed_discovery_has_a_one_line_message(
    operation: str, error: AwsError, exit_code: int, expected: tuple[str, ...]
) -> None:
    """The message names the caller, the error and the fix; the organization does not count as empty."""
    with pytest.raises(UserError) as error_info:
        discovered(organization(answers={operation: error}))
    assert all(text in error_info.value.message for text in expected), error_info.value.message
    assert "\n" not in error_info.value.message
    assert error_info.value.exit_code == exit_code


@pytest.mark.parametrize("answer", [{}, {"Accounts": []}])
def test_a_response_without_accounts_is_an_error(answer: dict[str, Any]) -> None:
    """Every organization has a management account: an empty response must not mark all accounts as left."""
    with pytest.raises(RequiredCallError, match="no accounts"):
        discovered(organization(answers={"ListAccounts": answer, "DescribeOrganization": {}}))


@dataclass(frozen=True)
class MotoOrganization:
    """The address and ids of an organization in moto."""

    url: str
    accounts: dict[str, str]
    units: dict[str, str]


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoOrganization]:
    from tests.crawler.moto import served_organization

    with served_organization() as (url, accounts, units):
        yield MotoOrganization(url, accounts, units)


@pytest.mark.deep
def test_discovery_over_http(moto: MotoOrganization) -> None:
    """The discovery works over HTTP against moto's implementation of AWS Organizations."""
    from crawler.aws.client import AwsClient
    from crawler.aws.credentials import Roles
    from models.settings import AwsSettings, RoleSettings
    from models.settings.crawl import CrawlSettings

    async def discover() -> org.Organization:
        aws = AwsSettings.model_validate({"endpoint_url": moto.url})
        client = AwsClient(aws, CrawlSettings(quota_share_percent=100))
        try:
            roles = Roles(client, aws, RoleSettings(), ["kms:ListKeys"])
            wanted = OrganizationSettings.model_validate(
                {"include": {"ous": [moto.units["Production"]], "tags": {"stage": "test"}}}
            )
            return await org.discover(client, roles.own, await roles.identity(), wanted, "us-east-1")
        finally:
            client.close()

    result = asyncio.run(discover())
    assert result.gaps == ()
    by_name = {account.name: account for account in result.accounts}
    assert {name: by_name[name].account_id for name in moto.accounts} == moto.accounts
    assert by_name["web-shop"].ou_names == ("Root", "Production", "Web")
    assert {account.account_id for account in result.accounts if account.is_management} == {MANAGEMENT}
    assert {name: by_name[name].selection for name in moto.accounts} == {
        "web-shop": "crawled",
        "lab-1": "crawled",
        "lab-0": "suspended",
        "other": "excluded",
    }
