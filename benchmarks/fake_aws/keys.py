"""Generates a key: the response of each operation, computed from account, region, slot and day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.fake_aws import distributions as assumed
from benchmarks.fake_aws import policies
from benchmarks.fake_aws.edge_cases import EDGE_CASES, HOSTILE, KEY_OPERATIONS, EdgeCase
from benchmarks.fake_aws.faults import DenialReason
from benchmarks.fake_aws.grants import ADDED, Grants
from benchmarks.fake_aws.id_encoding import (
    EDGE_CASE_KEYS,
    MANAGED,
    MANAGED_SERVICES,
    MULTI,
    MultiRegionSet,
    day_of,
    kind_of,
    number_of,
)
from benchmarks.fake_aws.presets import DAY, START, Parameters
from benchmarks.fake_aws.seeded_random import Draw

TRACKING_START = 1_773_253_425.56
"""The start of usage tracking: 2026-03-11, as in the example of the AWS documentation."""
YEAR = 365 * DAY
STORES = ("cks-0a1b2c3d4e5f60718", "cks-1f2e3d4c5b6a79880")
"""Ids of the external key store and the CloudHSM key store."""
ALGORITHMS: dict[str, tuple[str, str, list[str]]] = {
    "SYMMETRIC_DEFAULT": ("ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["SYMMETRIC_DEFAULT"]),
    "RSA": ("ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
    "ECC": ("SIGN_VERIFY", "SigningAlgorithms", ["ECDSA_SHA_256"]),
    "HMAC": ("GENERATE_VERIFY_MAC", "MacAlgorithms", ["HMAC_SHA_256"]),
    "ML": ("SIGN_VERIFY", "SigningAlgorithms", ["ML_DSA_SHAKE_256"]),
}
STATES_AT_WILL = ("Enabled", "Disabled")


class KeyScope(Protocol):
    """The properties of an account-region that a key depends on."""

    parameters: Parameters
    account_id: str
    region: str
    day: int
    other: str
    """Another account of the organization."""

    def changes(self, slot: int) -> list[tuple[int, str]]:
        """Day and kind of all changes in a slot."""

    def multi(self, number: int) -> MultiRegionSet:
        """A set of multi-Region keys of the account."""


QUOTA = 50_000
"""The AWS quota of grants per key."""


@dataclass(slots=True)
class Key:
    """One key in the shapes of the API. `denied` maps denied operations to the reason."""

    arn: str
    metadata: dict[str, Any]
    policy: str
    tags: list[dict[str, str]]
    grants: Grants
    rotation: dict[str, Any] | None
    """None: GetKeyRotationStatus and ListKeyRotations are not supported for this key."""
    rotations: list[dict[str, Any]]
    last_usage: dict[str, Any]
    denied: dict[str, DenialReason]
    encoded: dict[str, bytes] = field(default_factory=dict)
    """Encoded responses by operation."""


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
    denied: dict[str, DenialReason] = field(default_factory=dict)


def make_key(home: KeyScope, slot: int, key_id: str) -> Key:
    """The key in a slot of an account-region."""
    parameters = home.parameters
    arn = f"arn:aws:kms:{home.region}:{home.account_id}:key/{key_id}"
    kind = kind_of(slot)
    # A multi-Region key has the same material, rotation and creation date in all regions.
    draw = Draw(parameters.seed, home.account_id, key_id if kind == MULTI else f"{home.region}/{slot}")
    changes = home.changes(slot)
    counted = {what: sum(1 for _, each in changes if each == what) for what in {each for _, each in changes}}
    edge_case = EDGE_CASES[number_of(slot)] if kind == EDGE_CASE_KEYS else None
    if kind == MANAGED:
        traits = _managed(draw, MANAGED_SERVICES[number_of(slot)])
        policy = policies.managed(MANAGED_SERVICES[number_of(slot)], home.account_id, home.region)
    else:
        traits = (
            _edge_case_traits(edge_case, parameters) if edge_case else _customer_traits(draw, parameters, day_of(slot))
        )
        if edge_case and edge_case.policy == "longest":
            policy = policies.longest(home.account_id, home.region)
        else:
            added = counted.get("policy", 0)
            statements = 1 if edge_case else parameters.policy_statements
            policy = policies.text(home.account_id, home.region, draw, home.other, statements, added)
    if counted.get("state", 0) % 2 and traits.state in STATES_AT_WILL:
        traits.state = "Disabled" if traits.state == "Enabled" else "Enabled"
    deletion = _deletion(home, traits, changes)
    metadata = _metadata(home, traits, arn, key_id, "AWS" if kind == MANAGED else "CUSTOMER")
    if deletion is not None:
        metadata |= {"KeyState": "PendingDeletion", "Enabled": False, "DeletionDate": deletion}
    if kind == MULTI:
        _multi_region(home, home.multi(number_of(slot)), metadata)
    tags = [] if kind == MANAGED else _tags(draw, traits, edge_case, counted.get("tag", 0))
    removed = min(counted.get("grant removed", 0), traits.grants)
    added_grants = tuple(ADDED + day for day, what in changes if what == "grant added")
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


def _edge_case_traits(edge_case: EdgeCase, parameters: Parameters) -> _Traits:
    return _Traits(
        edge_case.state,
        edge_case.spec,
        edge_case.origin,
        START - (2 if edge_case.used == "never" else 1000) * DAY,
        edge_case.description or f"odd key: {edge_case.name}",
        edge_case.tags,
        parameters.giant_grants if edge_case.grants is None else edge_case.grants,
        edge_case.services_only,
        edge_case.rotation,
        edge_case.on_demand,
        edge_case.used,
        edge_case.material,
        edge_case.denied,
    )


def _customer_traits(draw: Draw, parameters: Parameters, born: int) -> _Traits:
    spec = draw.weighted(assumed.KEY_SPECS)
    origin = draw.weighted(assumed.KEY_ORIGINS) if spec == "SYMMETRIC_DEFAULT" else "AWS_KMS"
    state = "Enabled" if born else draw.weighted(assumed.KEY_STATES)
    if (state == "PendingImport" and origin != "EXTERNAL") or (state == "Unavailable" and "STORE" not in origin):
        state = "Enabled"
    used = "never" if born else draw.weighted(assumed.LAST_USED)
    age = draw.between(0, 100) if used == "never" else draw.between(260, 2500)
    grants = parameters.grants_per_key
    denied: dict[str, DenialReason] = {}
    if draw.chance(assumed.LOCKED):
        denied = dict.fromkeys(KEY_OPERATIONS, "key policy")
    else:
        denied = {name: "key policy" for name, share in assumed.DENIED_ALONE.items() if draw.chance(share)}
        if draw.chance(assumed.LAST_USAGE_DENIED):
            denied["GetKeyLastUsage"] = "key policy"
    if not parameters.key_denials:
        denied = {}
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


def _deletion(home: KeyScope, traits: _Traits, changes: list[tuple[int, str]]) -> float | None:
    """The deletion date, if any. Keys that are initially pending deletion are rescheduled every 20 days."""
    scheduled = [day for day, what in changes if what == "scheduled"]
    if scheduled:
        return START + (scheduled[0] + 29.5) * DAY
    if traits.state == "PendingDeletion":
        return START + (home.day // 20 * 20 + 21) * DAY
    return None


def _metadata(home: KeyScope, traits: _Traits, arn: str, key_id: str, manager: str) -> dict[str, Any]:
    usage, member, algorithms = ALGORITHMS.get(traits.spec) or ALGORITHMS[traits.spec.split("_")[0]]
    response: dict[str, Any] = {
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
        response["CustomerMasterKeySpec"] = traits.spec
    if traits.origin == "AWS_KMS" and traits.spec == "SYMMETRIC_DEFAULT":
        response["CurrentKeyMaterialId"] = Draw("material", key_id).hexes(64)
    if traits.origin == "EXTERNAL" and traits.state != "PendingImport":
        response["ExpirationModel"] = traits.material.get("ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE")
        if "ValidTo" in traits.material:
            response["ValidTo"] = START + traits.material["ValidTo"] * DAY
    if traits.origin == "EXTERNAL_KEY_STORE":
        response |= {"CustomKeyStoreId": STORES[0], "XksKeyConfiguration": {"Id": f"xks-{key_id[:8]}"}}
    if traits.origin == "AWS_CLOUDHSM":
        response |= {"CustomKeyStoreId": STORES[1], "CloudHsmClusterId": "cluster-1a23b4cdefg"}
    return response


def _multi_region(home: KeyScope, family: MultiRegionSet, metadata: dict[str, Any]) -> None:
    def member(region: str) -> dict[str, str]:
        return {"Arn": f"arn:aws:kms:{region}:{home.account_id}:key/{family.key_id}", "Region": region}

    primary = home.region == family.primary
    metadata["MultiRegion"] = True
    metadata["MultiRegionConfiguration"] = {
        "MultiRegionKeyType": "PRIMARY" if primary else "REPLICA",
        "PrimaryKey": member(family.primary),
        "ReplicaKeys": [member(region) for region in family.replicas],
    }
    if family.pending_deletion and primary:
        # A primary key that waits for its replicas has a waiting period but no date.
        metadata |= {"KeyState": "PendingReplicaDeletion", "Enabled": False, "PendingDeletionWindowInDays": 30}
        metadata.pop("DeletionDate", None)


def _tags(draw: Draw, traits: _Traits, edge_case: EdgeCase | None, changed: int) -> list[dict[str, str]]:
    if edge_case and edge_case.name == "hostile":
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
    home: KeyScope, draw: Draw, traits: _Traits, metadata: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    if traits.spec != "SYMMETRIC_DEFAULT" or traits.origin != "AWS_KMS":
        return None, []
    arn, key_id = metadata["Arn"], metadata["KeyId"]
    period = draw.weighted(assumed.ROTATION_DAYS)
    enabled = traits.rotation and metadata["KeyState"] not in {"PendingDeletion", "PendingReplicaDeletion"}
    response: dict[str, Any] = {"KeyId": arn, "KeyRotationEnabled": enabled}
    today = START + home.day * DAY
    passed = int((today - traits.created) // (period * DAY)) if traits.rotation else 0
    if enabled:
        response |= {"RotationPeriodInDays": period, "NextRotationDate": traits.created + (passed + 1) * period * DAY}
    dates = [(traits.created + n * period * DAY, "AUTOMATIC") for n in range(1, passed + 1)]
    dates += [(today - n * 9 * DAY - 0.25 * DAY, "ON_DEMAND") for n in range(traits.on_demand)]
    material = [
        {
            "KeyId": key_id,
            "KeyMaterialId": Draw("material", key_id, rotated_at).hexes(64),
            "KeyMaterialState": "NON_CURRENT",
            "RotationDate": rotated_at,
            "RotationType": rotation_type,
        }
        for rotated_at, rotation_type in sorted(dates)
    ]
    if material:
        material[-1] |= {"KeyMaterialState": "CURRENT", "KeyMaterialId": metadata["CurrentKeyMaterialId"]}
    return response, material


def _last_usage(home: KeyScope, draw: Draw, traits: _Traits, arn: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "KeyId": arn,
        "KeyLastUsage": {},
        "TrackingStartDate": max(TRACKING_START, traits.created),
        "KeyCreationDate": traits.created,
    }
    if traits.used in {"recently", "long ago"} and traits.created < START:
        days = draw.between(0, 89) - home.day if traits.used == "recently" else draw.between(91, 240)
        response["KeyLastUsage"] = {
            "Operation": draw.pick(("Decrypt", "GenerateDataKey", "Encrypt", "ReEncrypt")),
            "Timestamp": max(START - (days + 0.1) * DAY, TRACKING_START),
            "CloudTrailEventId": draw.hexes(32),
            "KmsRequestId": draw.hexes(32)[::-1],
        }
    return response
