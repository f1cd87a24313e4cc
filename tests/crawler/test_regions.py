"""Regions of accounts: listed by the account or the organization, each as the fallback of the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crawler import discovery as org
from crawler.aws.errors import AwsError
from models.errors import InvalidSettingsError
from models.settings import RegionSettings, Settings
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
    """Return the selection by region of each account, or its error."""

    async def find() -> list[dict[str, str] | AwsError]:
        region_settings = RegionSettings.model_validate(settings)
        finder = org.Regions(client_for(aws), Caller(hub), region_settings, "us-east-1", management)
        results: list[dict[str, str] | AwsError] = []
        for account in accounts:
            try:
                results.append(
                    {region.region: region.selection for region in await finder.of(account, Caller(account))}
                )
            except AwsError as error:
                results.append(error)
        return results

    return asyncio.run(find())


def test_regions_are_listed_by_the_account_by_default() -> None:
    """By default each account lists its own regions: its rate limit is higher than that of the organization."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": MEMBER_REGIONS})
    assert (
        regions(aws, SHOP, MANAGEMENT)
        == [{"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}] * 2
    )
    assert [call.name for call in aws.calls] == ["ec2:DescribeRegions"] * 2


@pytest.mark.parametrize("answer", [denied("ec2:DescribeRegions"), aws_error("Throttling"), {"Regions": []}])
def test_the_organization_is_the_fallback(answer: Result) -> None:
    """After an error or an empty listing, the organization lists the regions of that account only."""
    failing_once = in_turn(answer, MEMBER_REGIONS)
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": failing_once})
    of_hub, of_member = regions(aws, SHOP, LAB)
    assert of_hub == {"eu-west-1": "crawled", "me-south-1": "crawled", "af-south-1": "disabled"}
    assert of_member == {"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [SHOP]


def test_if_both_sources_fail_the_error_of_the_account_is_raised() -> None:
    """The account's error is the actionable one; a denied organization is called only once for all accounts."""
    aws = ScriptedAws(
        {
            "account:ListRegions": aws_error("AccessDeniedException"),
            "ec2:DescribeRegions": denied("ec2:DescribeRegions"),
        }
    )
    results = regions(aws, SHOP, LAB, OLD)
    assert [isinstance(error, AwsError) and "ec2:DescribeRegions" in error.message for error in results] == [True] * 3
    assert len(aws.of("account:ListRegions")) == 1


def test_a_delegated_administrator_does_not_list_regions_of_the_management_account() -> None:
    """AWS denies that call, and without an id it would return the wrong regions: the account's error is raised."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": denied("ec2:DescribeRegions")})
    (result,) = regions(aws, MANAGEMENT, hub=LAB)
    assert isinstance(result, AwsError)
    assert aws.of("account:ListRegions") == []


def test_the_organization_is_called_first_if_configured() -> None:
    """Disabled regions are recorded, a region being enabled is crawled; no member account is called."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    expected = {"eu-west-1": "crawled", "me-south-1": "crawled", "af-south-1": "disabled"}
    assert regions(aws, SHOP, LAB, source="account") == [expected, expected]
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [SHOP, LAB]


def test_the_management_account_does_not_pass_its_own_id() -> None:
    """AWS rejects the management account's own id."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    regions(aws, MANAGEMENT, source="account")
    (call,) = aws.calls
    assert "AccountId" not in call.params


def test_a_delegated_administrator_gets_its_own_regions_only_for_itself() -> None:
    """Without an id the API returns the caller's regions: correct for itself, wrong for the management account."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS, "ec2:DescribeRegions": MEMBER_REGIONS})
    _, of_management, _ = regions(aws, LAB, MANAGEMENT, SHOP, hub=LAB, source="account")
    assert isinstance(of_management, dict)
    assert "xx-new-1" in of_management
    assert [call.params.get("AccountId") for call in aws.of("account:ListRegions")] == [None, SHOP]
    assert len(aws.of("ec2:DescribeRegions")) == 1


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
def test_without_trusted_access_each_member_lists_its_regions(code: str) -> None:
    """A denial for one account applies to all: it costs one call per run, not one per account."""
    aws = ScriptedAws({"account:ListRegions": aws_error(code), "ec2:DescribeRegions": MEMBER_REGIONS})
    expected = {"eu-west-1": "crawled", "af-south-1": "disabled", "xx-new-1": "crawled"}
    assert regions(aws, SHOP, LAB, OLD, source="account") == [expected] * 3
    assert (len(aws.of("account:ListRegions")), len(aws.of("ec2:DescribeRegions"))) == (1, 3)


def test_a_throttled_organization_is_called_again_for_the_next_account() -> None:
    """A transient error is not cached: the organization is called again for the next account."""
    aws = ScriptedAws({"account:ListRegions": aws_error("ThrottlingException"), "ec2:DescribeRegions": MEMBER_REGIONS})
    regions(aws, SHOP, LAB, source="account")
    assert len(aws.of("account:ListRegions")) == 2


@pytest.mark.parametrize(("source", "management"), [("ec2", MANAGEMENT), ("account", None)])
def test_members_list_their_regions_if_configured_or_without_an_organization(
    source: str, management: str | None
) -> None:
    """With regions.source ec2, or a list of accounts, account:ListRegions is not called."""
    aws = ScriptedAws({"ec2:DescribeRegions": MEMBER_REGIONS})
    regions(aws, SHOP, source=source, management=management)
    assert [call.name for call in aws.calls] == ["ec2:DescribeRegions"]


@pytest.mark.parametrize("source", ["ec2", "account"])
def test_if_both_sources_fail_an_error_is_raised(source: str) -> None:
    """If both sources fail, the error is raised and becomes a gap; the account does not count as having no regions."""
    aws = ScriptedAws({"account:ListRegions": aws_error("Throttling"), "ec2:DescribeRegions": denied()})
    (failure,) = regions(aws, SHOP, source=source)
    assert isinstance(failure, AwsError)


@pytest.mark.parametrize("source", ["ec2", "account"])
def test_an_empty_listing_is_an_error(source: str) -> None:
    """An empty listing of the organization falls back to the account; an empty listing there is an error."""
    aws = ScriptedAws({"account:ListRegions": {}, "ec2:DescribeRegions": MEMBER_REGIONS})
    (result,) = regions(aws, SHOP, source=source)
    assert isinstance(result, dict)
    empty = ScriptedAws({"account:ListRegions": {}, "ec2:DescribeRegions": {"Regions": []}})
    (failure,) = regions(empty, SHOP, source=source)
    assert isinstance(failure, AwsError)


def test_the_configuration_excludes_regions() -> None:
    """Regions are included and excluded as configured; an excluded region is recorded as excluded, whatever its status."""
    aws = ScriptedAws({"account:ListRegions": HUB_REGIONS})
    (only,) = regions(aws, SHOP, include=["eu-west-1"])
    (without,) = regions(aws, SHOP, exclude=["eu-west-1"])
    assert only == {"eu-west-1": "crawled", "me-south-1": "excluded", "af-south-1": "excluded"}
    assert without == {"eu-west-1": "excluded", "me-south-1": "crawled", "af-south-1": "disabled"}


def test_regions_in_the_settings_must_exist() -> None:
    """Names that the installed botocore does not know are reported at once, each with its setting and the most similar one."""
    values = {
        "aws": {"region": "us-gov-west-1"},
        "regions": {"include": ["eu-west-9", "eusc-de-east-1"], "exclude": ["xy-west-1"]},
    }
    with pytest.raises(InvalidSettingsError) as caught:
        org.check_regions(Settings.model_validate(values))
    first, second = caught.value.message.splitlines()
    assert first.startswith("regions.include: AWS has no region eu-west-9: did you mean eu-west-")
    assert second.startswith("regions.exclude: AWS has no region xy-west-1: ")
    assert caught.value.exit_code == 2
    org.check_regions(Settings())
