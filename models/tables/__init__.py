"""Every table, in one import: what the migrations are compared with."""

from __future__ import annotations

from models.tables.access_analysis import (
    AccessAnalysis,
    AccessHygiene,
    AccessPolicy,
    AccessState,
    AccessVerdict,
    KeyAnalysis,
)
from models.tables.findings import Finding, RuleResult
from models.tables.iam import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamListing,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    ResourcePolicy,
)
from models.tables.keys import (
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
from models.tables.organization import Account, AccountRegion
from models.tables.resources import KeyReference, KeyUsage, Resource
from models.tables.runs import CrawlLock, Delivery, Gap, Run, ScopeRun
from models.tables.trails import Trail, TrailListing, TrailSelector, TrailShadow, TrailStatus
from models.versioned import Base, VersionedTable, versioned_tables

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
    "VersionedTable",
    "versioned_tables",
]
