"""The made-up organization: the same for the same seed, changing at its rate, with every oddity that was promised."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws.edge_cases import ODD
from benchmarks.fake_aws.presets import PRESETS, Parameters, preset
from benchmarks.fake_aws.seeded_random import Draw
from benchmarks.fake_aws.world_state import Place, World

FACETS = ("metadata", "policy", "tags", "rotation", "denied")


def picture(place: Place) -> dict[str, Any]:
    """Everything that can be read in an account-region, by subject; not the last use, which changes by itself."""
    told: dict[str, Any] = {}
    for key_id in place.key_ids:
        key = place.key(key_id)
        assert key is not None
        told[key.arn] = [getattr(key, model) for model in FACETS] + [key.grants.page(0, 200), len(key.grants)]
    told |= {alias["AliasArn"]: alias for alias in place.aliases}
    told |= {secret["ARN"]: secret for secret in place.secrets}
    told |= {instance["DBInstanceArn"]: instance for instance in place.databases.instances}
    told |= {group["ARN"]: group for group in place.caches.replication_groups}
    return told


@pytest.fixture(scope="module")
def tiny() -> World:
    return World(preset("tiny", seed=7))


@pytest.fixture(scope="module")
def odd_place(tiny: World) -> Place:
    return tiny.place(tiny.accounts[1].id, "us-east-1")


def keys_of(place: Place) -> dict[str, Any]:
    """Odd keys by name."""
    return {odd.name: place.key(place.odd_key(odd.name)) for odd in ODD}


def test_the_same_seed_gives_the_same_world(tiny: World) -> None:
    """Worlds of two processes agree on every member of every answer; another seed is another world."""
    again, other = World(preset("tiny", seed=7)), World(preset("tiny", seed=8))
    places = [(account.id, region) for account in tiny.accounts for region in tiny.parameters.regions]
    assert [picture(tiny.place(*at)) for at in reversed(places)] == [
        picture(again.place(*at)) for at in reversed(places)
    ]
    assert tiny.access_key != other.access_key
    assert {account.id for account in tiny.accounts}.isdisjoint(account.id for account in other.accounts)
    assert World(Parameters.from_json(json.loads(json.dumps(tiny.parameters.to_json())))).parameters == tiny.parameters


def test_what_was_forgotten_comes_back_the_same() -> None:
    """A place that had to make room for others is computed again, alike."""
    world = World(preset("tiny", seed=7, keys_per_place=8_000))
    places = [(account.id, region) for account in world.accounts for region in world.parameters.regions]
    first = world.place(*places[0])
    before = (first.key_ids, first.aliases[:50])
    for at in places[1:]:
        world.place(*at)
    second = world.place(*places[0])
    assert second is not first
    assert (second.key_ids, second.aliases[:50]) == before


@pytest.mark.parametrize(("rate", "keys"), [(0.01, 2_500), (0.10, 600)])
def test_a_night_changes_about_its_share_of_keys(rate: float, keys: int) -> None:
    """Night n+1 differs from night n by about the change rate, and a night can be looked at without those before it."""
    world = World(preset("small", giant_keys=keys, change_rate=rate, grants_per_key=1, resources=0))
    account, region = world.giant
    nights = [picture_of_keys(world.place(account, region, night=night)) for night in (3, 4)]
    changed = {arn for arn in {*nights[0], *nights[1]} if nights[0].get(arn) != nights[1].get(arn)}
    # Keys whose automatic rotation came due, or whose deletion was put off, are not among these facets.
    assert 0.6 * rate < len(changed) / keys < 1.5 * rate
    assert picture_of_keys(World(world.parameters).place(account, region, night=4)) == nights[1]


def picture_of_keys(place: Place) -> dict[str, Any]:
    """What a change of a key can touch; aliases count for the key they point to."""
    aliases: dict[str, list[str]] = {}
    for alias in place.aliases:
        aliases.setdefault(alias.get("TargetKeyId", ""), []).append(alias["AliasName"])
    told = {}
    for key_id in place.key_ids:
        key = place.key(key_id)
        assert key is not None
        state = key.metadata["KeyState"]
        moved = [name for name in aliases.get(key_id, ()) if "-" in name]
        told[key.arn] = [state, key.policy, key.tags, key.grants.page(0, 50), moved]
    return told


def test_all_kinds_of_changes_happen() -> None:
    """Over many nights keys are made, disabled, scheduled, gone; resources too."""
    world = World(preset("tiny", seed=7, change_rate=0.2, keys_per_place=60, resources=2))
    account = world.accounts[2].id
    first, last = (world.place(account, "us-east-1", night=night) for night in (0, 25))
    kinds = {what for at in last.slots for _, what in last.changes(at)}
    assert kinds == {name for name, _ in assumed.KEY_CHANGES} - {"gone", "created"}
    assert set(first.key_ids) - set(last.key_ids)
    assert set(last.key_ids) - set(first.key_ids)
    before, after = ({each["Name"]: each.get("KmsKeyId") for each in place.secrets} for place in (first, last))
    assert before.keys() - after.keys()
    assert after.keys() - before.keys()
    assert any(before[name] != after[name] for name in before.keys() & after.keys())


def test_a_key_that_is_gone_was_scheduled_first() -> None:
    """No key vanishes without having been in PendingDeletion on an earlier night."""
    world = World(preset("tiny", seed=7, change_rate=0.3, keys_per_place=40))
    account = world.accounts[2].id
    states: dict[str, str] = {}
    for night in range(12):
        place = world.place(account, "us-east-1", night=night)
        for gone in states.keys() - set(place.key_ids):
            assert states.pop(gone) == "PendingDeletion"
        for key_id in place.key_ids:
            key = place.key(key_id)
            assert key is not None
            states[key_id] = key.metadata["KeyState"]


def test_keys_are_found_by_id_only(odd_place: Place) -> None:
    """Every listed id leads to its key; ids of other places, made-up ids and rubbish lead nowhere."""
    listed = [odd_place.key(key_id) for key_id in odd_place.key_ids]
    assert [key.metadata["KeyId"] for key in listed if key] == odd_place.key_ids
    assert len(set(odd_place.key_ids)) == len(odd_place.key_ids)
    elsewhere = odd_place.world.place(odd_place.account_id, "eu-west-1")
    foreign = [key_id for key_id in elsewhere.key_ids if not key_id.startswith("mrk-")]
    wrong = [*foreign, "", "alias/x", "mrk-0", odd_place.key_ids[0][:-1] + "g", "0" * 8 + odd_place.key_ids[0][8:]]
    assert [odd_place.key(key_id) for key_id in wrong] == [None] * len(wrong)


def test_multi_region_keys_share_their_id_and_material(tiny: World) -> None:
    """One id in three regions with three ARNs, the same primary and material; another waits for its replica, undated."""
    account = tiny.accounts[1].id
    places = [tiny.place(account, region) for region in tiny.parameters.regions]
    family, leaving = tiny.families(1)[:2]
    keys = [place.key(family.key_id) for place in places]
    metadata = [key.metadata for key in keys if key]
    assert len({each["Arn"] for each in metadata}) == 3
    assert {each["MultiRegionConfiguration"]["PrimaryKey"]["Arn"] for each in metadata} == {metadata[0]["Arn"]}
    assert [each["MultiRegionConfiguration"]["MultiRegionKeyType"] for each in metadata] == [
        "PRIMARY",
        "REPLICA",
        "REPLICA",
    ]
    assert len({each.get("CurrentKeyMaterialId") for each in metadata}) == 1
    waiting = places[0].key(leaving.key_id)
    assert waiting is not None
    assert waiting.metadata["KeyState"] == "PendingReplicaDeletion"
    assert "DeletionDate" not in waiting.metadata
    assert waiting.metadata["PendingDeletionWindowInDays"] == 30


def test_every_odd_key_is_there(odd_place: Place) -> None:
    """Each of the oddities that a reader must stand, in the shape in which AWS has it."""
    keys = keys_of(odd_place)
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
    stores = {store["CustomKeyStoreId"] for store in odd_place.stores}
    assert {keys[name].metadata["CustomKeyStoreId"] for name in ("external-store", "hardware-store")} == stores
    assert 30_000 < len(keys["longest-policy"].policy) <= 32_768


def test_resources_name_keys_in_every_form(odd_place: Place) -> None:
    """Key ids, ARNs, aliases, sentinels, strangers, nothing at all; and a database that RDS encrypts by itself."""
    named = {secret["Name"]: secret.get("KmsKeyId") for secret in odd_place.secrets}
    assert {named[f"odd/sentinel-{word}"] for word in assumed.SENTINELS} == set(assumed.SENTINELS)
    assert named["odd/alias-arn"] in {alias["AliasArn"] for alias in odd_place.aliases}
    assert named["odd/key-id"] in odd_place.key_ids
    assert odd_place.world.account(str(named["odd/outside"]).split(":")[4]) is None
    assert odd_place.world.account(str(named["odd/other-account"]).split(":")[4]) is not None
    assert named["odd/scheduled"] is None
    (owned,) = [each for each in odd_place.databases.clusters if each["DBClusterIdentifier"] == "sse-rds"]
    assert (owned["StorageEncryptionType"], owned["StorageEncrypted"], "KmsKeyId" in owned) == ("sse-rds", False, False)
    without_target = [alias for alias in odd_place.aliases if "TargetKeyId" not in alias]
    assert all(alias["AliasName"].startswith("alias/aws/") for alias in without_target)
    assert len(without_target) >= 8


def test_policies_are_documents_of_realistic_sizes() -> None:
    """From the console's one statement to the quota, all of them valid JSON."""
    world = World(preset("small", giant_keys=1_500))
    place = world.place(*world.giant)
    policies = [key.policy for key_id in place.key_ids[:1_500] if (key := place.key(key_id))]
    assert all(json.loads(policy)["Statement"] for policy in policies)
    sizes = sorted(len(policy) for policy in policies)
    assert 250 < sizes[0] < 400
    assert 700 < sizes[len(sizes) // 2] < 3_000
    assert 8_000 < sizes[-1] <= 32_768


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_size(name: str) -> None:
    """Accounts as many as said, in the states that were planned, and no region without an answer."""
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
        world.place(account.id, region).key_ids is not None for region in account.region_states(world.parameters)
    )


def test_a_large_organization_is_mostly_empty() -> None:
    """ASSUMPTION kept: about 62 % of account-regions have no key, about 87 % no customer key."""
    world = World(preset("large"))
    places = [
        world.place(account.id, region) for account in world.accounts[6:206] for region in world.parameters.regions
    ]
    assert 0.55 < sum(not place.slots for place in places) / len(places) < 0.69
    assert 0.80 < sum(not place.customer for place in places) / len(places) < 0.92


def test_one_key_may_have_fifty_thousand_grants() -> None:
    """The quota; a page far into the listing costs no more than the first, and ids stay unique."""
    world = World(preset("tiny", giant_grants=50_000))
    place = world.place(world.accounts[1].id, "us-east-1")
    key = place.key(place.odd_key("crowded"))
    assert key is not None
    assert len(key.grants) == 50_000
    pages = [key.grants.page(start, 100) for start in (0, 25_000, 49_900)]
    assert [len(page) for page in pages] == [100, 100, 100]
    assert len({grant["GrantId"] for page in pages for grant in page}) == 300


def test_draws_follow_their_shares() -> None:
    """Weighted and log-normal draws have the shape that they are named after."""
    draw = Draw("shares")
    values = [draw.weighted((("a", 0.7), ("b", 0.3))) for _ in range(5_000)]
    assert abs(values.count("a") / 5_000 - 0.7) < 0.03
    numbers = sorted(draw.lognormal(30, 1.0, 1, 1_000) for _ in range(5_000))
    assert 27 <= numbers[2_500] <= 33
    assert (numbers[0] >= 1, numbers[-1] <= 1_000) == (True, True)
    assert {draw.between(3, 5) for _ in range(200)} == {3, 4, 5}
