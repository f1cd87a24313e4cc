"""Edge cases: one key for every property that has broken programs which read KMS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.fake_aws.faults import DenialReason

KEY_OPERATIONS = (
    "DescribeKey",
    "GetKeyPolicy",
    "ListGrants",
    "ListResourceTags",
    "GetKeyRotationStatus",
    "ListKeyRotations",
    "GetKeyLastUsage",
)
"""The operations that a key policy can deny."""
HOSTILE = (
    '<script>alert(1)</script>\n=HYPERLINK("http://evil.example")\'; DROP TABLE keys;-- \u202eRTL \U0001f512 &amp;'
)


@dataclass(frozen=True, slots=True)
class EdgeCase:
    """The properties in which a key differs from an ordinary key."""

    name: str
    state: str = "Enabled"
    spec: str = "SYMMETRIC_DEFAULT"
    origin: str = "AWS_KMS"
    description: str | None = None
    grants: int | None = None
    """None: the number in `Parameters.giant_grants`."""
    services_only: bool = False
    policy: str = "plain"
    tags: int = 1
    aliases: int = 1
    denied: dict[str, DenialReason] = field(default_factory=dict)
    used: str = "recently"
    rotation: bool = True
    on_demand: int = 0
    material: dict[str, Any] = field(default_factory=dict)


def _all_denied(reason: DenialReason) -> dict[str, DenialReason]:
    return dict.fromkeys(KEY_OPERATIONS, reason)


EDGE_CASES: tuple[EdgeCase, ...] = (
    EdgeCase("undescribed", denied={"DescribeKey": "key policy"}, grants=2),
    EdgeCase("locked", denied=_all_denied("key policy"), grants=3),
    EdgeCase("unreadable-policy", denied={"GetKeyPolicy": "role"}, grants=0),
    EdgeCase("ungranted-listing", denied={"ListGrants": "bare"}, grants=1),
    EdgeCase("crowded"),
    EdgeCase("used-by-services", grants=3, services_only=True),
    EdgeCase("external-store", state="Unavailable", origin="EXTERNAL_KEY_STORE", grants=0, rotation=False),
    EdgeCase("hardware-store", origin="AWS_CLOUDHSM", grants=0, rotation=False),
    EdgeCase("awaiting-material", state="PendingImport", origin="EXTERNAL", grants=0, rotation=False),
    EdgeCase(
        "expiring-material",
        origin="EXTERNAL",
        grants=0,
        rotation=False,
        material={"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": 20},
    ),
    EdgeCase("longest-policy", policy="longest", grants=0),
    EdgeCase("last-used-never", used="never", grants=0),
    EdgeCase("last-used-before-tracking", used="unknown", grants=0),
    EdgeCase("last-use-denied", denied={"GetKeyLastUsage": "key policy"}, grants=0),
    EdgeCase("disabled", state="Disabled", grants=1),
    EdgeCase("to-be-deleted", state="PendingDeletion", grants=1),
    EdgeCase("creating", state="Creating", grants=0, rotation=False),
    EdgeCase("updating", state="Updating", grants=0),
    EdgeCase("rsa", spec="RSA_4096", grants=0),
    EdgeCase("signing", spec="ECC_NIST_P256", grants=0),
    EdgeCase("wallet", spec="ECC_SECG_P256K1", grants=0),
    EdgeCase("hmac", spec="HMAC_256", grants=0),
    EdgeCase("post-quantum", spec="ML_DSA_65", grants=0),
    EdgeCase("rotated-on-demand", on_demand=25, grants=0),
    EdgeCase("never-rotated", rotation=False, grants=0),
    EdgeCase("hostile", description=HOSTILE, tags=4, grants=0),
    EdgeCase("tagged-to-the-limit", tags=50, grants=0),
    EdgeCase("many-aliases", aliases=50, grants=0),
    EdgeCase("nameless", aliases=0, tags=0, grants=0),
)
POSITIONS = {edge_case.name: number for number, edge_case in enumerate(EDGE_CASES)}
"""Position by name."""
