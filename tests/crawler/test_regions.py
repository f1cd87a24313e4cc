"""Regions of accounts: from each account or from the organization, one standing in for the other, and never taken for none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler import discovery as org
from crawler.aws.errors import AwsError
from models.settings import RegionSettings
from tests.crawler.scripted_aws import Caller, Result, ScriptedAws, aws_error, client_for, denied, in_turn

MANAGEMENT, SHOP, LAB, OLD = "123456789012", "111122223333", "444455556666", "777788889999"

HUB_REGIONS = {
    "Regions": [
        {"RegionName": "eu-west-1", "RegionOptStatus": "ENABLED_BY_DEFAULT"},
        {"RegionName": "af-south-1", "RegionOptStatus": "DISABLED"},
        {"RegionName": "me-south-1", "RegionOptStatus": "ENABLING"},
    ]
}
MEMBER_REGIONS = {
    "Regions": [
        {"RegionName": "eu-west-1", "OptInStatus": "opt-in-not-required"},
        {"RegionName": "af-south-1", "OptInStatus": "not-opted-in"},
        {"RegionName": "xx-new-1"},
    ]
}


def regions(
    aws: ScriptedAws, *accounts: str, hub: str = MANAGEMENT, management: str | None = MANAGEMENT, **settings: Any
) -> list[dict[str, str] | AwsError]:
    """Region to selection of each account in turn, or why there is none."""

    async def find() -> list[dict[str, str] | AwsError]:
        wanted = RegionSettings.model_validate(settings)
        finder = org.Regions(client_for(aws), Caller(hub), wanted, "us-east-1", management)
        found: list[dict[str, str] | AwsError] = []
        for account in accounts:
            try:
                found.append({region.region: region.selection for region in await finder.of(account, Caller(account))})
            except AwsError as error:
                found.append(error)
        return found

    return asyncio.run(find())


def test_the_account_itself_is_asked_and_the_organization_is_not() -> None:
    """By default each account tells its own regions: of them AWS takes more calls than of the organization."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": MEMBER_REGIONS})
    assert (
        regions(aws, SHOP, MANAGEMENT)
        == [{"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}] * 2
    )
    assert [call.name for call in aws.calls] == ["ec2:DescribeRegions"] * 2


@pytest.mark.parametrize("answer", [denied("ec2:DescribeRegions"), aws_error("Throttling"), {"Regions": []}])
def test_what_an_account_does_not_tell_the_organization_does(answer: Result) -> None:
    """Refused, throttled or without any region: the organization is asked about that account, and only about that one."""
    silent = in_turn(answer, MEMBER_REGIONS)
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": silent})
    of_hub, of_member = regions(aws, SHOP, LAB)
    assert of_hub == {"eu-west-1": "crawled", "me-south-1": "crawled", "af-south-1": "disabled"}
    assert of_member == {"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [SHOP]


def test_when_neither_the_account_nor_the_organization_tells_the_accounts_own_error_is_given() -> None:
    """Its refusal is what can be acted on; the organization, which refuses for all, is asked once for many accounts."""
    aws = ScriptedAws(
        {
            "account:ListRegions": aws_error("AccessDeniedException"),
            "ec2:DescribeRegions": denied("ec2:DescribeRegions"),
        }
    )
    found = regions(aws, SHOP, LAB, OLD)
    assert [isinstance(one, AwsError) and "ec2:DescribeRegions" in one.message for one in found] == [True] * 3
    assert len(aws.of("account:ListRegions")) == 1


def test_the_organization_is_not_asked_about_the_management_account_by_a_delegated_administrator() -> None:
    """It may not, and without an id it would get its own regions: the account's error is given."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": denied("ec2:DescribeRegions")})
    (found,) = regions(aws, MANAGEMENT, hub=LAB)
    assert isinstance(found, AwsError)
    assert aws.of("account:ListRegions") == []


def test_regions_come_from_the_organization_where_it_is_to_be_asked_first() -> None:
    """Disabled regions are known as such, one that is being enabled is tried; no member is asked."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    expected = {"eu-west-1": "crawled", "me-south-1": "crawled", "af-south-1": "disabled"}
    assert regions(aws, SHOP, LAB, source="account") == [expected, expected]
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [SHOP, LAB]


def test_the_management_account_does_not_name_itself() -> None:
    """AWS refuses the management account's own id."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    regions(aws, MANAGEMENT, source="account")
    (call,) = aws.calls
    assert "AccountId" not in call.params


def test_a_delegated_administrator_does_not_take_its_own_regions_for_others() -> None:
    """Without an id the caller's own regions come back: right for itself, wrong for the management account."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": MEMBER_REGIONS})
    _, of_management, _ = regions(aws, LAB, MANAGEMENT, SHOP, hub=LAB, source="account")
    assert isinstance(of_management, dict)
    assert "xx-new-1" in of_management
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [None, SHOP]
    assert len(aws.of("ec2:DescribeRegions")) == 1


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
def test_without_trusted_access_each_member_is_asked_and_the_hub_no_more(code: str) -> None:
    """What is denied for one account is denied for all: it costs one call a night, not one an account."""
    aws = ScriptedAws({"account:ListRegions": aws_error(code), "ec2:DescribeRegions": MEMBER_REGIONS})
    expected = {"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}
    assert regions(aws, SHOP, LAB, OLD, source="account") == [expected] * 3
    assert (len(aws.of("account:ListRegions")), len(aws.of("ec2:DescribeRegions"))) == (1, 3)


def test_a_throttled_hub_is_asked_again_for_the_next_account() -> None:
    """What may pass is not remembered: the next account is asked of the organization again."""
    aws = ScriptedAws({"account:ListRegions": aws_error("ThrottlingException"), "ec2:DescribeRegions": MEMBER_REGIONS})
    regions(aws, SHOP, LAB, source="account")
    assert len(aws.of("account:ListRegions")) == 2


@pytest.mark.parametrize(("source", "management"), [("ec2", MANAGEMENT), ("account", None)])
def test_members_are_asked_where_configured_or_without_an_organization(source: str, management: str | None) -> None:
    """regions.source ec2, or a list of accounts: account:ListRegions is not asked."""
    aws = ScriptedAws({"ec2:DescribeRegions": MEMBER_REGIONS})
    regions(aws, SHOP, source=source, management=management)
    assert [call.name for call in aws.calls] == ["ec2:DescribeRegions"]


@pytest.mark.parametrize("source", ["ec2", "account"])
def test_when_neither_way_answers_the_account_has_no_regions_to_tell(source: str) -> None:
    """Both refused: the error goes up, to become a gap of the account; it is not an account without regions."""
    aws = ScriptedAws({"account:ListRegions": aws_error("Throttling"), "ec2:DescribeRegions": denied()})
    (failure,) = regions(aws, SHOP, source=source)
    assert isinstance(failure, AwsError)


@pytest.mark.parametrize("source", ["ec2", "account"])
def test_an_answer_without_regions_is_no_account_without_regions(source: str) -> None:
    """An empty answer of the organization sends us to the account; an empty one there is an error."""
    aws = ScriptedAws({"account:ListRegions": {}, "ec2:DescribeRegions": MEMBER_REGIONS})
    (found,) = regions(aws, SHOP, source=source)
    assert isinstance(found, dict)
    nothing = ScriptedAws({"account:ListRegions": {}, "ec2:DescribeRegions": {"Regions": []}})
    (failure,) = regions(nothing, SHOP, source=source)
    assert isinstance(failure, AwsError)


def test_the_configuration_leaves_regions_out() -> None:
    """Included and excluded regions; a region left out is named as such, whatever its status."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    (only,) = regions(aws, SHOP, include=["eu-west-1"])
    (without,) = regions(aws, SHOP, exclude=["eu-west-1"])
    assert only == {"eu-west-1": "crawled", "me-south-1": "excluded", "af-south-1": "excluded"}
    assert without == {"eu-west-1": "excluded", "me-south-1": "crawled", "af-south-1": "disabled"}
