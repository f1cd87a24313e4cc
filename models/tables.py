"""Every table, in one import: what the migrations are compared with."""

from __future__ import annotations

from models.access import AccessAnalysis, AccessHygiene, AccessPolicy, AccessState, AccessVerdict, KeyAnalysis
from models.base import Base, Facet, facets
from models.findings import Finding, RuleResult
from models.iam import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamListing,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    ResourcePolicy,
)
from models.keys import (
    Alias,
    CustomKeyStore,
    Key,
    KeyGrant,
    KeyLastUse,
    KeyLastUseAsked,
    KeyLastUseGap,
    KeyMetadata,
    KeyPolicy,
    KeyRotation,
    KeyRotationEvent,
    PolicyDocument,
    Tag,
)
from models.organization import Account, AccountRegion
from models.run import CrawlLock, Delivery, Gap, Run, ScopeRun
from models.trails import Trail, TrailListing, TrailSelector, TrailShadow, TrailStatus
from models.usage import KeyReference, KeyUsage, Resource

__all__ = [
    "AccessAnalysis",
    "AccessHygiene",
    "AccessPolicy",
    "AccessState",
    "AccessVerdict",
    "Account",
    "AccountRegion",
    "Alias",
    "Base",
    "CrawlLock",
    "CustomKeyStore",
    "Delivery",
    "Facet",
    "Finding",
    "Gap",
    "IamAttachment",
    "IamGroup",
    "IamInlinePolicy",
    "IamListing",
    "IamManagedPolicy",
    "IamMembership",
    "IamPrincipal",
    "Key",
    "KeyAnalysis",
    "KeyGrant",
    "KeyLastUse",
    "KeyLastUseAsked",
    "KeyLastUseGap",
    "KeyMetadata",
    "KeyPolicy",
    "KeyReference",
    "KeyRotation",
    "KeyRotationEvent",
    "KeyUsage",
    "PolicyDocument",
    "Resource",
    "ResourcePolicy",
    "RuleResult",
    "Run",
    "ScopeRun",
    "Tag",
    "Trail",
    "TrailListing",
    "TrailSelector",
    "TrailShadow",
    "TrailStatus",
    "facets",
]
