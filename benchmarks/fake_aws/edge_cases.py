"""The odd keys: one of every kind that has surprised a program which reads KMS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.fake_aws.faults import Wording

KEY_OPERATIONS = (
    "DescribeKey",
    "GetKeyPolicy",
    "ListGrants",
    "ListResourceTags",
    "GetKeyRotationStatus",
    "ListKeyRotations",
    "GetKeyLastUsage",
)
"""The operations that a key's own policy decides on."""
HOSTILE = (
    '<script>alert(1)</script>\n=HYPERLINK("http://evil.example")\'; DROP TABLE keys;-- \u202eRTL \U0001f512 &amp;'
)


@dataclass(frozen=True, slots=True)
class Odd:
    """What is special about a key; all else is plain."""

    name: str
    state: str = "Enabled"
    spec: str = "SYMMETRIC_DEFAULT"
    origin: str = "AWS_KMS"
    description: str | None = None
    grants: int | None = None
    """None: as many as the world's parameter `giant_grants` says."""
    services_only: bool = False
    policy: str = "plain"
    tags: int = 1
    aliases: int = 1
    denied: dict[str, Wording] = field(default_factory=dict)
    used: str = "recently"
    rotation: bool = True
    on_demand: int = 0
    material: dict[str, Any] = field(default_factory=dict)


def _all_denied(wording: Wording) -> dict[str, Wording]:
    return dict.fromkeys(KEY_OPERATIONS, wording)


ODD: tuple[Odd, ...] = (
    Odd("undescribed", denied={"DescribeKey": "key policy"}, grants=2),
    Odd("locked", denied=_all_denied("key policy"), grants=3),
    Odd("unreadable-policy", denied={"GetKeyPolicy": "role"}, grants=0),
    Odd("ungranted-listing", denied={"ListGrants": "bare"}, grants=1),
    Odd("crowded"),
    Odd("used-by-services", grants=3, services_only=True),
    Odd("external-store", state="Unavailable", origin="EXTERNAL_KEY_STORE", grants=0, rotation=False),
    Odd("hardware-store", origin="AWS_CLOUDHSM", grants=0, rotation=False),
    Odd("awaiting-material", state="PendingImport", origin="EXTERNAL", grants=0, rotation=False),
    Odd(
        "expiring-material",
        origin="EXTERNAL",
        grants=0,
        rotation=False,
        material={"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": 20},
    ),
    Odd("longest-policy", policy="longest", grants=0),
    Odd("last-used-never", used="never", grants=0),
    Odd("last-used-before-tracking", used="unknown", grants=0),
    Odd("last-use-denied", denied={"GetKeyLastUsage": "key policy"}, grants=0),
    Odd("disabled", state="Disabled", grants=1),
    Odd("to-be-deleted", state="PendingDeletion", grants=1),
    Odd("creating", state="Creating", grants=0, rotation=False),
    Odd("updating", state="Updating", grants=0),
    Odd("rsa", spec="RSA_4096", grants=0),
    Odd("signing", spec="ECC_NIST_P256", grants=0),
    Odd("wallet", spec="ECC_SECG_P256K1", grants=0),
    Odd("hmac", spec="HMAC_256", grants=0),
    Odd("post-quantum", spec="ML_DSA_65", grants=0),
    Odd("rotated-on-demand", on_demand=25, grants=0),
    Odd("never-rotated", rotation=False, grants=0),
    Odd("hostile", description=HOSTILE, tags=4, grants=0),
    Odd("tagged-to-the-limit", tags=50, grants=0),
    Odd("many-aliases", aliases=50, grants=0),
    Odd("nameless", aliases=0, tags=0, grants=0),
)
NUMBER = {odd.name: number for number, odd in enumerate(ODD)}
"""Position by name."""
