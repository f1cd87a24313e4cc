"""One key: what each operation tells of it, computed from its account, region, slot and night alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws import policies
from benchmarks.fake_aws.edge_cases import HOSTILE, KEY_OPERATIONS, ODD, Odd
from benchmarks.fake_aws.faults import Wording
from benchmarks.fake_aws.grants import ADDED, Grants
from benchmarks.fake_aws.id_encoding import (
    MANAGED,
    MANAGED_SERVICES,
    MULTI,
    ODD_KEYS,
    MultiRegionSet,
    kind_of,
    night_of,
    number_of,
)
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.seeded_random import Draw

TRACKING_START = 1_773_253_425.56
"""Since when last use is tracked: 2026-03-11, as in the example of the documentation."""
YEAR = 365 * DAY
STORES = ("cks-0a1b2c3d4e5f60718", "cks-1f2e3d4c5b6a79880")
"""Ids of the external and of the hardware key store."""
ALGORITHMS: dict[str, tuple[str, str, list[str]]] = {
    "SYMMETRIC_DEFAULT": ("ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["SYMMETRIC_DEFAULT"]),
    "RSA": ("ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
    "ECC": ("SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_256"]),
    "HMAC": ("GENERATE_VERIFY_MAC", "MacAlgorithms", ["HMAC_SHA_256"]),
    "ML": ("SIGN_VERIFY", "SigningAlgorithms", ["ML_DSA_SHAKE_256"]),
}
STATES_AT_WILL = ("Enabled", "Disabled")


class Home(Protocol):
    """What a key must know of its account-region."""

    parameters: Parameters
    account_id: str
    region: str
    night: int
    other: str
    """Another account of the organization."""

    def changes(self, slot: int) -> list[tuple[int, str]]:
        """Night and kind of all that changed in this slot."""

    def multi(self, number: int) -> MultiRegionSet:
        """A set of multi-Region keys of the account."""


QUOTA = 50_000
"""Grants of a key, as AWS allows."""


@dataclass(slots=True)
class Key:
    """Everything that AWS tells of one key, in the shapes of its API. `denied` are operations with the blame's wording."""

    arn: str
    metadata: dict[str, Any]
    policy: str
    tags: list[dict[str, str]]
    grants: Grants
    rotation: dict[str, Any] | None
    """None: GetKeyRotationStatus and ListKeyRotations are not supported for this key."""
    rotations: list[dict[str, Any]]
    last_usage: dict[str, Any]
    denied: dict[str, Wording]
    encoded: dict[str, bytes] = field(default_factory=dict)
    """Answers that were encoded already, by operation."""


@dataclass(slots=True)
class _Traits:
    state: str
    spec: str = "SYMMETRIC_DEFAULT"
    origin: str = "AWS_KMS"
    created: float = 0.0
    description: str = ""
    tags: int = 0
    grants: int = 0
    services_only: bool = False
    rotation: bool = True
    on_demand: int = 0
    used: str = "recently"
    material: dict[str, Any] = field(default_factory=dict)
    denied: dict[str, Wording] = field(default_factory=dict)


def make_key(home: Home, slot: int, key_id: str) -> Key:
    """The key in a slot of an account-region."""
    parameters = home.parameters
    arn = f"arn:aws:kms:{home.region}:{home.account_id}:key/{key_id}"
    kind = kind_of(slot)
    # A multi-Region key has the same material, rotation and age in all its regions.
    draw = Draw(parameters.seed, home.account_id, key_id if kind == MULTI else f"{home.region}/{slot}")
    changes = home.changes(slot)
    counted = {what: sum(1 for _, each in changes if each == what) for what in {each for _, each in changes}}
    odd = ODD[number_of(slot)] if kind == ODD_KEYS else None
    if kind == MANAGED:
        traits = _managed(draw, MANAGED_SERVICES[number_of(slot)])
        policy = policies.managed(MANAGED_SERVICES[number_of(slot)], home.account_id, home.region)
    else:
        traits = _of_odd(odd, parameters) if odd else _of_customer(draw, parameters, night_of(slot))
        if odd and odd.policy == "longest":
            policy = policies.longest(home.account_id, home.region)
        else:
            added = counted.get("policy", 0)
            statements = 1 if odd else parameters.policy_statements
            policy = policies.text(home.account_id, home.region, draw, home.other, statements, added)
    if counted.get("state", 0) % 2 and traits.state in STATES_AT_WILL:
        traits.state = "Disabled" if traits.state == "Enabled" else "Enabled"
    deletion = _deletion(home, traits, changes)
    metadata = _metadata(home, traits, arn, key_id, "AWS" if kind == MANAGED else "CUSTOMER")
    if deletion is not None:
        metadata |= {"KeyState": "PendingDeletion", "Enabled": False, "DeletionDate": deletion}
    if kind == MULTI:
        _multi_region(home, home.multi(number_of(slot)), metadata)
    tags = [] if kind == MANAGED else _tags(draw, traits, odd, counted.get("tag", 0))
    removed = min(counted.get("grant removed", 0), traits.grants)
    added_grants = tuple(ADDED + night for night, what in changes if what == "grant added")
    grants = Grants(
        f"{parameters.seed}/{home.account_id}/{home.region}/{slot}",
        arn,
        home.account_id,
        home.other,
        traits.grants,
        frozenset(range(removed)),
        added_grants,
        traits.services_only,
    )
    rotation, rotations = _rotation(home, draw, traits, metadata)
    return Key(
        arn, metadata, policy, tags, grants, rotation, rotations, _last_usage(home, draw, traits, arn), traits.denied
    )


def _managed(draw: Draw, service: str) -> _Traits:
    grants = draw.lognormal(*assumed.GRANTS_OF_MANAGED.get(service, (1, 0.5, 0, 2)))
    return _Traits(
        "Enabled",
        created=START - draw.between(200, 2500) * DAY,
        description=f"Default key that protects my {service} data when no other key is defined",
        grants=grants,
    )


def _of_odd(odd: Odd, parameters: Parameters) -> _Traits:
    return _Traits(
        odd.state,
        odd.spec,
        odd.origin,
        START - (2 if odd.used == "never" else 1000) * DAY,
        odd.description or f"odd key: {odd.name}",
        odd.tags,
        parameters.giant_grants if odd.grants is None else odd.grants,
        odd.services_only,
        odd.rotation,
        odd.on_demand,
        odd.used,
        odd.material,
        odd.denied,
    )


def _of_customer(draw: Draw, parameters: Parameters, born: int) -> _Traits:
    spec = draw.weighted(assumed.KEY_SPECS)
    origin = draw.weighted(assumed.KEY_ORIGINS) if spec == "SYMMETRIC_DEFAULT" else "AWS_KMS"
    state = "Enabled" if born else draw.weighted(assumed.KEY_STATES)
    if (state == "PendingImport" and origin != "EXTERNAL") or (state == "Unavailable" and "STORE" not in origin):
        state = "Enabled"
    used = "never" if born else draw.weighted(assumed.LAST_USED)
    age = draw.between(0, 100) if used == "never" else draw.between(260, 2500)
    grants = parameters.grants_per_key
    denied: dict[str, Wording] = {}
    if draw.chance(assumed.LOCKED):
        denied = dict.fromkeys(KEY_OPERATIONS, "key policy")
    else:
        denied = {name: "key policy" for name, share in assumed.DENIED_ALONE.items() if draw.chance(share)}
        if draw.chance(assumed.LAST_USAGE_DENIED):
            denied["GetKeyLastUsage"] = "key policy"
    return _Traits(
        state,
        spec,
        origin,
        START + (born - 0.25) * DAY if born else START - age * DAY,
        f"key of application {draw.between(1, 500)}",
        draw.between(*draw.weighted(assumed.TAGS)),
        min(draw.between(*draw.weighted(assumed.GRANTS)), parameters.most_grants or QUOTA)
        if grants is None
        else grants,
        rotation=draw.chance(assumed.ROTATION_ON),
        on_demand=draw.between(1, 25) if draw.chance(assumed.ON_DEMAND_ROTATIONS) else 0,
        used=used,
        denied=denied,
    )


def _deletion(home: Home, traits: _Traits, changes: list[tuple[int, str]]) -> float | None:
    """When the key goes. Those that were to be deleted at the start have new owners of the problem every month."""
    scheduled = [night for night, what in changes if what == "scheduled"]
    if scheduled:
        return START + (scheduled[0] + 29.5) * DAY
    if traits.state == "PendingDeletion":
        return START + (home.night // 20 * 20 + 21) * DAY
    return None


def _metadata(home: Home, traits: _Traits, arn: str, key_id: str, manager: str) -> dict[str, Any]:
    usage, member, algorithms = ALGORITHMS.get(traits.spec) or ALGORITHMS[traits.spec.split("_")[0]]
    told: dict[str, Any] = {
        "AWSAccountId": home.account_id,
        "KeyId": key_id,
        "Arn": arn,
        "CreationDate": traits.created,
        "Enabled": traits.state == "Enabled",
        "Description": traits.description,
        "KeyUsage": usage,
        "KeyState": traits.state,
        "Origin": traits.origin,
        "KeyManager": manager,
        "KeySpec": traits.spec,
        "MultiRegion": False,
        member: algorithms,
    }
    if not traits.spec.startswith("ML"):
        told["CustomerMasterKeySpec"] = traits.spec
    if traits.origin == "AWS_KMS" and traits.spec == "SYMMETRIC_DEFAULT":
        told["CurrentKeyMaterialId"] = Draw("material", key_id).hexes(64)
    if traits.origin == "EXTERNAL" and traits.state != "PendingImport":
        told["ExpirationModel"] = traits.material.get("ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE")
        if "ValidTo" in traits.material:
            told["ValidTo"] = START + traits.material["ValidTo"] * DAY
    if traits.origin == "EXTERNAL_KEY_STORE":
        told |= {"CustomKeyStoreId": STORES[0], "XksKeyConfiguration": {"Id": f"xks-{key_id[:8]}"}}
    if traits.origin == "AWS_CLOUDHSM":
        told |= {"CustomKeyStoreId": STORES[1], "CloudHsmClusterId": "cluster-1a23b4cdefg"}
    return told


def _multi_region(home: Home, family: MultiRegionSet, metadata: dict[str, Any]) -> None:
    def member(region: str) -> dict[str, str]:
        return {"Arn": f"arn:aws:kms:{region}:{home.account_id}:key/{family.key_id}", "Region": region}

    primary = home.region == family.primary
    metadata["MultiRegion"] = True
    metadata["MultiRegionConfiguration"] = {
        "MultiRegionKeyType": "PRIMARY" if primary else "REPLICA",
        "PrimaryKey": member(family.primary),
        "ReplicaKeys": [member(region) for region in family.replicas],
    }
    if family.leaving and primary:
        # A primary waits for its replicas: it has a window, and no date.
        metadata |= {"KeyState": "PendingReplicaDeletion", "Enabled": False, "PendingDeletionWindowInDays": 30}
        metadata.pop("DeletionDate", None)


def _tags(draw: Draw, traits: _Traits, odd: Odd | None, changed: int) -> list[dict[str, str]]:
    if odd and odd.name == "hostile":
        pairs = [
            ("Owner", HOSTILE[:256]),
            ("=1+1", "@SUM(A1)"),
            ("<b>", "</td>"),
            ("Cost Center", "\u00e9\u4e2d \U0001f600"),
        ]
        return [{"TagKey": key, "TagValue": value} for key, value in pairs]
    names = ("Owner", "Environment", "DataTier", "CostCenter", "Application", "Team", "Compliance")
    tags = [
        {"TagKey": names[n] if n < len(names) else f"tag-{n:02d}", "TagValue": f"value-{draw.between(1, 30)}"}
        for n in range(traits.tags)
    ]
    if changed:
        tags = [{"TagKey": "Reviewed", "TagValue": f"review-{changed}"}, *tags[: 49 if len(tags) == 50 else None]]
    return tags


def _rotation(
    home: Home, draw: Draw, traits: _Traits, metadata: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    if traits.spec != "SYMMETRIC_DEFAULT" or traits.origin != "AWS_KMS":
        return None, []
    arn, key_id = metadata["Arn"], metadata["KeyId"]
    period = draw.weighted(assumed.ROTATION_DAYS)
    on = traits.rotation and metadata["KeyState"] not in {"PendingDeletion", "PendingReplicaDeletion"}
    told: dict[str, Any] = {"KeyId": arn, "KeyRotationEnabled": on}
    today = START + home.night * DAY
    passed = int((today - traits.created) // (period * DAY)) if traits.rotation else 0
    if on:
        told |= {"RotationPeriodInDays": period, "NextRotationDate": traits.created + (passed + 1) * period * DAY}
    dates = [(traits.created + n * period * DAY, "AUTOMATIC") for n in range(1, passed + 1)]
    dates += [(today - n * 9 * DAY - 0.25 * DAY, "ON_DEMAND") for n in range(traits.on_demand)]
    material = [
        {
            "KeyId": key_id,
            "KeyMaterialId": Draw("material", key_id, when).hexes(64),
            "KeyMaterialState": "NON_CURRENT",
            "RotationDate": when,
            "RotationType": how,
        }
        for when, how in sorted(dates)
    ]
    if material:
        material[-1] |= {"KeyMaterialState": "CURRENT", "KeyMaterialId": metadata["CurrentKeyMaterialId"]}
    return told, material


def _last_usage(home: Home, draw: Draw, traits: _Traits, arn: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "KeyId": arn,
        "KeyLastUsage": {},
        "TrackingStartDate": max(TRACKING_START, traits.created),
        "KeyCreationDate": traits.created,
    }
    if traits.used in {"recently", "long ago"} and traits.created < START:
        days = draw.between(0, 89) - home.night if traits.used == "recently" else draw.between(91, 240)
        told["KeyLastUsage"] = {
            "Operation": draw.pick(("Decrypt", "GenerateDataKey", "Encrypt", "ReEncrypt")),
            "Timestamp": max(START - (days + 0.1) * DAY, TRACKING_START),
            "CloudTrailEventId": draw.hexes(32),
            "KmsRequestId": draw.hexes(32)[::-1],
        }
    return told
