"""Accounts and organizational units: what is crawled, what is not and why, and what happens when AWS will not say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from crawler import discovery as org
from crawler.account_facts import account_batch
from crawler.aws.credentials import Identity
from crawler.aws.errors import AwsError
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
IDENTITY = Identity(f"arn:aws:sts::{MANAGEMENT}:assumed-role/crawler/night", MANAGEMENT)
ROOT, PRODUCTION, WEB, SANDBOX = "r-abcd", "ou-abcd-11111111", "ou-abcd-22222222", "ou-abcd-33333333"
TREE = {ROOT: (PRODUCTION, SANDBOX), PRODUCTION: (WEB,), WEB: (), SANDBOX: ()}
UNITS = {PRODUCTION: "Production", WEB: "Web", SANDBOX: "Sandbox"}
REGION_COLUMNS = {MANAGEMENT: (ROOT,), SHOP: (ROOT, PRODUCTION, WEB), LAB: (ROOT, SANDBOX), OLD: (ROOT, SANDBOX)}
NAMES = {MANAGEMENT: "main", SHOP: "web-shop", LAB: "lab-1", OLD: "lab-0"}
TAGS = {SHOP: {"stage": "prod"}, LAB: {"stage": "test"}}


def entry(account_id: str, *, told: bool = False, **values: Any) -> dict[str, Any]:
    """An account as ListAccounts shows it; ``told`` with its path."""
    state = "SUSPENDED" if account_id == OLD else "ACTIVE"
    found = {"Id": account_id, "Name": NAMES[account_id], "State": state, "Email": f"{account_id}@example.com"}
    found["Arn"] = f"arn:aws:organizations::{MANAGEMENT}:account/o-example/{account_id}"
    if told:
        values["Paths"] = ["o-example/" + "/".join(REGION_COLUMNS[account_id]) + "/"]
    return found | values


def organization(
    pages: Sequence[Sequence[Any]] | None = None, answers: Mapping[str, Answer] | None = None
) -> ScriptedAws:
    """AWS Organizations in a script."""

    def units(call: RecordedCall) -> Result:
        return {"OrganizationalUnits": [{"Id": unit, "Name": UNITS[unit]} for unit in TREE[call["ParentId"]]]}

    def of_unit(call: RecordedCall) -> Result:
        return {"Accounts": [entry(one) for one, path in REGION_COLUMNS.items() if path[-1] == call["ParentId"]]}

    def tags(call: RecordedCall) -> Result:
        return {"Tags": [{"Key": key, "Value": value} for key, value in TAGS.get(call["ResourceId"], {}).items()]}

    listed = pages or [[entry(MANAGEMENT), entry(SHOP)], [], [entry(LAB), entry(OLD)]]
    return ScriptedAws(
        {
            "organizations:DescribeOrganization": {"Organization": {"Id": "o-example", "MasterAccountId": MANAGEMENT}},
            "organizations:ListAccounts": paged("Accounts", listed, send="NextToken", receive="NextToken"),
            "organizations:ListRoots": {"Roots": [{"Id": ROOT, "Name": "Root"}]},
            "organizations:ListOrganizationalUnitsForParent": units,
            "organizations:ListAccountsForParent": of_unit,
            "organizations:ListTagsForResource": tags,
            **{f"organizations:{name}": answer for name, answer in (answers or {}).items()},
        }
    )


def discovered(aws: ScriptedAws, **settings: Any) -> org.Organization:
    """What is discovered with these settings of ``organization``."""
    wanted = OrganizationSettings.model_validate(settings)

    async def discover() -> org.Organization:
        return await org.discover(client_for(aws), Caller(MANAGEMENT), IDENTITY, wanted, "us-east-1")

    return asyncio.run(discover())


def selection(aws: ScriptedAws, **settings: Any) -> dict[str, str]:
    """Which accounts are crawled, or why not."""
    return {account.account_id: account.selection for account in discovered(aws, **settings).accounts}


TOLD = [[entry(one, told=True) for one in REGION_COLUMNS]]


def test_accounts_are_found_on_every_page_with_their_place() -> None:
    """Empty pages do not end the listing, units are walked to the bottom, the suspended account is kept but not crawled."""
    found = discovered(organization())
    assert (found.organization_id, found.management_account_id, found.is_complete, found.gaps) == (
        "o-example",
        MANAGEMENT,
        True,
        (),
    )
    assert {account.account_id: account.ou_ids for account in found.accounts} == REGION_COLUMNS
    names = {account.account_id: account.ou_names for account in found.accounts}
    assert names[SHOP] == ("Root", "Production", "Web")
    assert [account.account_id for account in found.accounts if account.is_management] == [MANAGEMENT]
    assert {account.account_id: account.selection for account in found.accounts} == {
        MANAGEMENT: "crawled",
        SHOP: "crawled",
        LAB: "crawled",
        OLD: "suspended",
    }


def test_accounts_that_tell_their_path_cost_no_walk() -> None:
    """Where ListAccounts shows the paths, ListAccountsForParent is not asked once; names still come from the units."""
    aws = organization(TOLD)
    found = discovered(aws)
    assert aws.of("organizations:ListAccountsForParent") == []
    assert {account.account_id: account.ou_ids for account in found.accounts} == REGION_COLUMNS
    assert all(account.has_ou_path for account in found.accounts)


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
    """State decides, the retired Status only where State is missing, and an account without either is tried."""
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
@pytest.mark.parametrize("pages", [None, TOLD], ids=["walked", "told"])
def test_filters_choose_accounts(settings: dict[str, Any], crawled: set[str], pages: Any) -> None:
    """By id, by unit with all below it, by tag, by name; what is included is then narrowed by what is excluded."""
    found = selection(organization(pages), **settings)
    assert {account for account, chosen in found.items() if chosen == "crawled"} == crawled
    assert found[OLD] == "suspended"


def test_tags_cost_calls_only_when_a_filter_needs_them() -> None:
    """ListTagsForResource is a call an account: not without a filter on tags."""
    aws = organization()
    discovered(aws)
    assert aws.of("organizations:ListTagsForResource") == []
    discovered(aws, include={"tags": {"stage": ["prod"]}})
    assert len(aws.of("organizations:ListTagsForResource")) == len(REGION_COLUMNS)


@pytest.mark.parametrize("side", ["include", "exclude"])
def test_an_account_whose_tags_are_denied_is_left_out_with_a_gap(side: str) -> None:
    """What decides is not known: the account is not read, and the gap says so."""
    aws = organization(answers={"ListTagsForResource": denied("organizations:ListTagsForResource")})
    found = discovered(aws, **{side: {"tags": {"stage": ["prod"]}}})
    assert {account.account_id for account in found.accounts if account.crawled} == set()
    assert {subject for _, subject, _ in found.gaps} == set(REGION_COLUMNS)


def test_a_list_of_accounts_asks_organizations_nothing() -> None:
    """source: list is for those without the organization: no call, names as written, nobody counts as gone."""
    aws = ScriptedAws({})
    found = discovered(aws, source="list", accounts=[{"id": SHOP, "name": "shop"}, LAB], exclude={"names": ["sh*"]})
    assert aws.calls == []
    assert [(account.account_id, account.name, account.selection) for account in found.accounts] == [
        (SHOP, "shop", "excluded"),
        (LAB, None, "crawled"),
    ]
    assert (found.is_complete, found.management_account_id) == (False, None)


WALKS = [
    ("ListRoots", False),
    ("ListOrganizationalUnitsForParent", False),
    ("ListAccountsForParent", False),
    ("ListRoots", True),
]


@pytest.mark.parametrize(("operation", "told"), WALKS)
def test_a_walk_that_is_denied_is_a_gap_and_keeps_the_last_known_place(
    ledger: Ledger, operation: str, told: bool
) -> None:
    """All accounts are crawled without their units; the ledger keeps the path that it knew, and names what was denied."""
    ledger.record_run(account_batch(ledger.engine, discovered(organization()), MANAGEMENT).batch, {})
    found = discovered(organization(TOLD if told else None, {operation: denied(f"organizations:{operation}")}))
    assert sum(account.crawled for account in found.accounts) == 3
    batch, gaps, _ = account_batch(ledger.engine, found, MANAGEMENT)
    ledger.record_run(batch, {})
    assert gaps == 1
    paths = {row["account_id"]: (row["ou_path"], row["ou_ids"]) for row in ledger.current(Account)}
    assert paths[SHOP] == ("/Production/Web", "/".join(REGION_COLUMNS[SHOP]))
    assert len(ledger.rows(Account)) == len(REGION_COLUMNS)
    (gap,) = ledger.current(Gap)
    assert (gap["operation"], gap["cause"]) == (operation, str(Cause.KEY_POLICY))


def test_a_filter_by_unit_needs_to_know_the_units() -> None:
    """Without a place nothing is read on suspicion; with paths told, ids decide even if names are denied."""
    chosen: dict[str, Any] = {"exclude": {"ous": [SANDBOX]}}
    roots_denied = {"ListRoots": denied("organizations:ListRoots")}
    walked = selection(organization(answers=roots_denied), **chosen)
    assert set(walked.values()) == {"excluded", "suspended"}
    told = selection(organization(TOLD, roots_denied), **chosen)
    assert told == {MANAGEMENT: "crawled", SHOP: "crawled", LAB: "excluded", OLD: "suspended"}


def test_an_account_that_left_is_kept_as_left(ledger: Ledger) -> None:
    """A complete listing that no longer shows an account says that it left; what was known of it stays."""
    ledger.record_run(account_batch(ledger.engine, discovered(organization()), MANAGEMENT).batch, {})
    fewer = discovered(organization([[entry(MANAGEMENT), entry(SHOP)]]))
    batch, _, left = account_batch(ledger.engine, fewer, MANAGEMENT)
    assert left == (LAB, OLD)
    ledger.record_run(batch, {})
    (lab,) = ledger.current(Account, account_id=LAB)
    assert (lab["state"], lab["selection"], lab["name"], lab["ou_path"]) == ("LEFT", "left", "lab-1", "/Sandbox")
    assert account_batch(ledger.engine, replace(fewer, is_complete=False), MANAGEMENT).left == ()


SENTENCES: list[tuple[str, AwsError, tuple[str, ...]]] = [
    (
        "DescribeOrganization",
        aws_error("AWSOrganizationsNotInUseException", "Your account is not a member of an organization."),
        (MANAGEMENT, "not part of an organization", "organization.source"),
    ),
    (
        "ListAccounts",
        aws_error("AccessDeniedException", "You don't have permissions to provider this resource."),
        (IDENTITY.arn, "may not read the organization", "organization.reader_role", "permissions --role management"),
    ),
    ("ListAccounts", aws_error("ThrottlingException", "Rate exceeded"), ("cannot be read", "ThrottlingException")),
    (
        "DescribeOrganization",
        AwsError(Cause.UNREACHABLE, "EndpointConnectionError", "Could not connect"),
        ("cannot be reached", "Could not connect"),
    ),
]


@pytest.mark.parametrize(("operation", "error", "words"), SENTENCES)
def test_an_organization_that_cannot_be_read_is_one_sentence(
    operation: str, error: AwsError, words: tuple[str, ...]
) -> None:
    """The user reads what was refused to whom and what to change; nothing is taken for an empty organization."""
    with pytest.raises(org.OrganizationError) as refusal:
        discovered(organization(answers={operation: error}))
    assert all(word in refusal.value.message for word in words), refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize("answer", [{}, {"Accounts": []}])
def test_an_answer_without_accounts_is_no_empty_organization(answer: dict[str, Any]) -> None:
    """An organization has its management account at least: an empty answer must not send every account away."""
    with pytest.raises(org.OrganizationError, match="no accounts"):
        discovered(organization(answers={"ListAccounts": answer, "DescribeOrganization": {}}))


@dataclass(frozen=True)
class Here:
    """An organization in moto, over HTTP."""

    url: str
    accounts: dict[str, str]
    units: dict[str, str]


@pytest.fixture(scope="module")
def moto() -> Iterator[Here]:
    from tests.crawler.moto import served_organization

    with served_organization() as (url, accounts, units):
        yield Here(url, accounts, units)


@pytest.mark.deep
def test_a_real_listing_over_http(moto: Here) -> None:
    """The whole discovery through boto3 against another implementation of AWS Organizations."""
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

    found = asyncio.run(discover())
    assert found.gaps == ()
    by_name = {account.name: account for account in found.accounts}
    assert {name: by_name[name].account_id for name in moto.accounts} == moto.accounts
    assert by_name["web-shop"].ou_names == ("Root", "Production", "Web")
    assert {account.account_id for account in found.accounts if account.is_management} == {MANAGEMENT}
    assert {name: by_name[name].selection for name in moto.accounts} == {
        "web-shop": "crawled",
        "lab-1": "crawled",
        "lab-0": "suspended",
        "other": "excluded",
    }
