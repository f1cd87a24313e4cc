"""The generated organization: deterministic for a seed, changing at its rate, with all edge cases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.edge_cases import EDGE_CASES
from benchmarks.fake_aws.presets import PRESETS, Parameters, preset
from benchmarks.fake_aws.seeded_random import Draw
from benchmarks.fake_aws.world_state import AccountRegion, World

pytestmark = pytest.mark.deep  # the endpoint of tests and benchmarks, not the product

ATTRIBUTES = ("metadata", "policy", "tags", "rotation", "denied")


def snapshot(account_region: AccountRegion) -> dict[str, Any]:
    """Everything that can be read in an account-region, by ARN, except the last use, which changes with time."""
    response: dict[str, Any] = {}
    for key_id in account_region.key_ids:
        key = account_region.key(key_id)
        assert key is not None
        response[key.arn] = [getattr(key, name) for name in ATTRIBUTES] + [key.grants.page(0, 200), len(key.grants)]
    response |= {alias["AliasArn"]: alias for alias in account_region.aliases}
    response |= {secret["ARN"]: secret for secret in account_region.secrets}
    response |= {instance["DBInstanceArn"]: instance for instance in account_region.databases.instances}
    response |= {group["ARN"]: group for group in account_region.caches.replication_groups}
    return response


@pytest.fixture(scope="module")
def tiny() -> World:
    return World(preset("tiny", seed=7))


@pytest.fixture(scope="module")
def edge_case_region(tiny: World) -> AccountRegion:
    return tiny.account_region(tiny.accounts[1].id, "us-east-1")


def edge_case_keys(account_region: AccountRegion) -> dict[str, Any]:
    """The edge-case keys by name."""
    return {case.name: account_region.key(account_region.edge_case_key(case.name)) for case in EDGE_CASES}


def test_the_same_seed_gives_the_same_organization(tiny: World) -> None:
    """Two instances with the same seed are equal in every member; another seed gives another organization."""
    again, other = World(preset("tiny", seed=7)), World(preset("tiny", seed=8))
    account_regions = [(account.id, region) for account in tiny.accounts for region in tiny.parameters.regions]
    assert [snapshot(tiny.account_region(*at)) for at in reversed(account_regions)] == [
        snapshot(again.account_region(*at)) for at in reversed(account_regions)
    ]
    assert tiny.access_key != other.access_key
    assert {account.id for account in tiny.accounts}.isdisjoint(account.id for account in other.accounts)
    assert World(Parameters.from_json(json.loads(json.dumps(tiny.parameters.to_json())))).parameters == tiny.parameters


def test_evicted_account_regions_are_recomputed() -> None:
    """An account-region that was evicted from the cache is computed again with the same content."""
    world = World(preset("tiny", seed=7, keys_per_account_region=8_000))
    account_regions = [(account.id, region) for account in world.accounts for region in world.parameters.regions]
    first = world.account_region(*account_regions[0])
    before = (first.key_ids, first.aliases[:50])
    for at in account_regions[1:]:
        world.account_region(*at)
    second = world.account_region(*account_regions[0])
    assert second is not first
    assert (second.key_ids, second.aliases[:50]) == before


@pytest.mark.parametrize(("rate", "keys"), [(0.01, 2_500), (0.10, 600)])
def test_a_day_changes_about_its_share_of_keys(rate: float, keys: int) -> None:
    """Day n+1 differs from day n by about the change rate, and a day can be computed without the days before it."""
    world = World(preset("small", giant_keys=keys, change_rate=rate, grants_per_key=1, resources=0))
    account, region = world.giant
    days = [key_snapshot(world.account_region(account, region, day=day)) for day in (3, 4)]
    changed = {arn for arn in {*days[0], *days[1]} if days[0].get(arn) != days[1].get(arn)}
    # The snapshot leaves out automatic rotation and rescheduled deletion.
    assert 0.6 * rate < len(changed) / keys < 1.5 * rate
    assert key_snapshot(World(world.parameters).account_region(account, region, day=4)) == days[1]


def key_snapshot(account_region: AccountRegion) -> dict[str, Any]:
    """The attributes that a change of a key can affect; aliases count for their target key."""
    aliases: dict[str, list[str]] = {}
    for alias in account_region.aliases:
        aliases.setdefault(alias.get("TargetKeyId", ""), []).append(alias["AliasName"])
    response = {}
    for key_id in account_region.key_ids:
        key = account_region.key(key_id)
        assert key is not None
        state = key.metadata["KeyState"]
        moved = [name for name in aliases.get(key_id, ()) if "-" in name]
        response[key.arn] = [state, key.policy, key.tags, key.grants.page(0, 50), moved]
    return response


def test_all_kinds_of_changes_happen() -> None:
    """Over many days, keys and resources are created, changed and deleted."""
    world = World(preset("tiny", seed=7, change_rate=0.2, keys_per_account_region=60, resources=2))
    account = world.accounts[2].id
    first, last = (world.account_region(account, "us-east-1", day=day) for day in (0, 25))
    kinds = {what for at in last.slots for _, what in last.changes(at)}
    assert kinds == {name for name, _ in assumed.KEY_CHANGES} - {"gone", "created"}
    assert set(first.key_ids) - set(last.key_ids)
    assert set(last.key_ids) - set(first.key_ids)
    before, after = (
        {each["Name"]: each.get("KmsKeyId") for each in account_region.secrets} for account_region in (first, last)
    )
    assert before.keys() - after.keys()
    assert after.keys() - before.keys()
    assert any(before[name] != after[name] for name in before.keys() & after.keys())


def test_a_deleted_key_was_scheduled_first() -> None:
    """A key is only deleted if it was in state PendingDeletion on an earlier day."""
    world = World(preset("tiny", seed=7, change_rate=0.3, keys_per_account_region=40))
    account = world.accounts[2].id
    states: dict[str, str] = {}
    for day in range(12):
        account_region = world.account_region(account, "us-east-1", day=day)
        for deleted in states.keys() - set(account_region.key_ids):
            assert states.pop(deleted) == "PendingDeletion"
        for key_id in account_region.key_ids:
            key = account_region.key(key_id)
            assert key is not None
            states[key_id] = key.metadata["KeyState"]


def test_keys_are_found_by_id_only(edge_case_region: AccountRegion) -> None:
    """Every listed id resolves to its key; ids of other account-regions, unknown and malformed ids resolve to nothing."""
    entries = [edge_case_region.key(key_id) for key_id in edge_case_region.key_ids]
    assert [key.metadata["KeyId"] for key in entries if key] == edge_case_region.key_ids
    assert len(set(edge_case_region.key_ids)) == len(edge_case_region.key_ids)
    elsewhere = edge_case_region.world.account_region(edge_case_region.account_id, "eu-west-1")
    foreign = [key_id for key_id in elsewhere.key_ids if not key_id.startswith("mrk-")]
    wrong = [
        *foreign,
        "",
        "alias/x",
        "mrk-0",
        edge_case_region.key_ids[0][:-1] + "g",
        "0" * 8 + edge_case_region.key_ids[0][8:],
    ]
    assert [edge_case_region.key(key_id) for key_id in wrong] == [None] * len(wrong)


def test_multi_region_keys_share_their_id_and_material(tiny: World) -> None:
    """A key has one id and material in three regions with three ARNs; another one is pending replica deletion."""
    account = tiny.accounts[1].id
    account_regions = [tiny.account_region(account, region) for region in tiny.parameters.regions]
    family, pending_deletion = tiny.families(1)[:2]
    keys = [account_region.key(family.key_id) for account_region in account_regions]
    metadata = [key.metadata for key in keys if key]
    assert len({each["Arn"] for each in metadata}) == 3
    assert {each["MultiRegionConfiguration"]["PrimaryKey"]["Arn"] for each in metadata} == {metadata[0]["Arn"]}
    assert [each["MultiRegionConfiguration"]["MultiRegionKeyType"] for each in metadata] == [
        "PRIMARY",
        "REPLICA",
        "REPLICA",
    ]
    assert len({each.get("CurrentKeyMaterialId") for each in metadata}) == 1
    waiting = account_regions[0].key(pending_deletion.key_id)
    assert waiting is not None
    assert waiting.metadata["KeyState"] == "PendingReplicaDeletion"
    assert "DeletionDate" not in waiting.metadata
    assert waiting.metadata["PendingDeletionWindowInDays"] == 30


def test_every_edge_case_exists(edge_case_region: AccountRegion) -> None:
    """Each edge case has the shape that AWS returns."""
    keys = edge_case_keys(edge_case_region)
    assert None not in keys.values()
    state = {name: key.metadata["KeyState"] for name, key in keys.items()}
    assert {*state.values()} == {
        "Enabled", "Disabled", "PendingDeletion", "PendingImport", "Unavailable", "Creating", "Updating"
    }  # fmt: skip
    assert keys["undescribed"].denied.keys() == {"DescribeKey"}
    assert len(keys["locked"].denied) == 7
    assert len(keys["crowded"].grants) == 130
    services = keys["used-by-services"].grants.page(0, 10)
    assert all("GranteePrincipal" not in each and "GranteeServicePrincipal" in each for each in services)
    assert keys["last-used-never"].last_usage["KeyLastUsage"] == {}
    never, unknown = (keys[f"last-used-{name}"].last_usage for name in ("never", "before-tracking"))
    assert never["KeyCreationDate"] >= never["TrackingStartDate"]
    assert unknown["KeyLastUsage"] == {}
    assert unknown["KeyCreationDate"] < unknown["TrackingStartDate"]
    assert keys["rsa"].last_usage["KeyLastUsage"]["Operation"]
    assert len(keys["rotated-on-demand"].rotations) >= 25
    assert len(keys["tagged-to-the-limit"].tags) == 50
    assert "<script>" in keys["hostile"].metadata["Description"]
    stores = {store["CustomKeyStoreId"] for store in edge_case_region.stores}
    assert {keys[name].metadata["CustomKeyStoreId"] for name in ("external-store", "hardware-store")} == stores
    assert 30_000 < len(keys["longest-policy"].policy) <= 32_768


def test_resources_reference_keys_in_every_form(edge_case_region: AccountRegion) -> None:
    """Key ids, ARNs, aliases, sentinels, external and dangling keys, no key; and a database encrypted by RDS."""
    references = {secret["Name"]: secret.get("KmsKeyId") for secret in edge_case_region.secrets}
    assert {references[f"odd/sentinel-{word}"] for word in assumed.SENTINELS} == set(assumed.SENTINELS)
    assert references["odd/alias-arn"] in {alias["AliasArn"] for alias in edge_case_region.aliases}
    assert references["odd/key-id"] in edge_case_region.key_ids
    assert edge_case_region.world.account(str(references["odd/outside"]).split(":")[4]) is None
    assert edge_case_region.world.account(str(references["odd/other-account"]).split(":")[4]) is not None
    assert references["odd/scheduled"] is None
    (owned,) = [each for each in edge_case_region.databases.clusters if each["DBClusterIdentifier"] == "sse-rds"]
    assert (owned["StorageEncryptionType"], owned["StorageEncrypted"], "KmsKeyId" in owned) == ("sse-rds", False, False)
    without_target = [alias for alias in edge_case_region.aliases if "TargetKeyId" not in alias]
    assert all(alias["AliasName"].startswith("alias/aws/") for alias in without_target)
    assert len(without_target) >= 8


def test_policies_are_documents_of_realistic_sizes() -> None:
    """Policies range from the one-statement default to the size limit, and all are valid JSON."""
    world = World(preset("small", giant_keys=1_500))
    account_region = world.account_region(*world.giant)
    policies = [key.policy for key_id in account_region.key_ids[:1_500] if (key := account_region.key(key_id))]
    assert all(json.loads(policy)["Statement"] for policy in policies)
    sizes = sorted(len(policy) for policy in policies)
    assert 250 < sizes[0] < 400
    assert 700 < sizes[len(sizes) // 2] < 3_000
    assert 8_000 < sizes[-1] <= 32_768


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_size(name: str) -> None:
    """A preset has its number of accounts, the special accounts, and data for every region."""
    world = World(preset(name, seed=2))
    assert (
        len({account.id for account in world.accounts}) == {"tiny": 7, "small": 25, "medium": 250, "large": 1000}[name]
    )
    assert [account.role for account in world.accounts[:6]] == [
        "good",
        "good",
        "good",
        "missing",
        "other external id",
        "good",
    ]
    assert world.accounts[5].state == "SUSPENDED"
    account = world.accounts[-1]
    assert all(
        world.account_region(account.id, region).key_ids is not None
        for region in account.region_states(world.parameters)
    )


def test_a_large_organization_is_mostly_empty() -> None:
    """As assumed, about 62 % of account-regions have no key and about 87 % no customer key."""
    world = World(preset("large"))
    account_regions = [
        world.account_region(account.id, region)
        for account in world.accounts[6:206]
        for region in world.parameters.regions
    ]
    assert 0.55 < sum(not account_region.slots for account_region in account_regions) / len(account_regions) < 0.69
    assert (
        0.80
        < sum(not account_region.customer_slots for account_region in account_regions) / len(account_regions)
        < 0.92
    )


def test_a_key_can_have_fifty_thousand_grants() -> None:
    """A key can reach the grant quota; pages far into the listing work, and ids are unique."""
    world = World(preset("tiny", giant_grants=50_000))
    account_region = world.account_region(world.accounts[1].id, "us-east-1")
    key = account_region.key(account_region.edge_case_key("crowded"))
    assert key is not None
    assert len(key.grants) == 50_000
    pages = [key.grants.page(start, 100) for start in (0, 25_000, 49_900)]
    assert [len(page) for page in pages] == [100, 100, 100]
    assert len({grant["GrantId"] for page in pages for grant in page}) == 300


def test_draws_follow_their_distribution() -> None:
    """Weighted and log-normal draws have the expected distribution."""
    draw = Draw("shares")
    values = [draw.weighted((("a", 0.7), ("b", 0.3))) for _ in range(5_000)]
    assert abs(values.count("a") / 5_000 - 0.7) < 0.03
    numbers = sorted(draw.lognormal(30, 1.0, 1, 1_000) for _ in range(5_000))
    assert 27 <= numbers[2_500] <= 33
    assert (numbers[0] >= 1, numbers[-1] <= 1_000) == (True, True)
    assert {draw.between(3, 5) for _ in range(200)} == {3, 4, 5}
