"""All tables of the ledger, in one import. A test compares them with the migrations."""

from __future__ import annotations

from models.tables.access_analysis import (
    AccessAnalysis,
    AccessPolicy,
    AccessVerdict,
    AnalysisWatermark,
    KeyAnalysis,
    PolicyLint,
)
from models.tables.findings import Finding, RuleResult
from models.tables.iam import (
    IamAttachment,
    IamGroup,
    IamInlinePolicy,
    IamManagedPolicy,
    IamMembership,
    IamPrincipal,
    IamScan,
    ResourcePolicy,
)
from models.tables.keys import (
    Alias,
    CustomKeyStore,
    Key,
    KeyGrant,
    KeyLastUse,
    KeyLastUseGap,
    KeyLastUsePoll,
    KeyMetadata,
    KeyPolicy,
    KeyRotation,
    KeyRotationEvent,
    PolicyDocument,
    Tag,
)
from models.tables.organization import Account, AccountRegion
from models.tables.resources import KeyReference, Resource, ResourceKey
from models.tables.runs import CrawlLock, Delivery, Gap, Run, ScopeCoverage
from models.tables.trails import ShadowTrail, Trail, TrailScan, TrailSelector, TrailStatus
from models.versioned import Base, VersionedTable, versioned_tables

__all__ = [
    "AccessAnalysis",
    "AccessPolicy",
    "AccessVerdict",
    "Account",
    "AccountRegion",
    "Alias",
    "AnalysisWatermark",
    "Base",
    "CrawlLock",
    "CustomKeyStore",
    "Delivery",
    "Finding",
    "Gap",
    "IamAttachment",
    "IamGroup",
    "IamInlinePolicy",
    "IamManagedPolicy",
    "IamMembership",
    "IamPrincipal",
    "IamScan",
    "Key",
    "KeyAnalysis",
    "KeyGrant",
    "KeyLastUse",
    "KeyLastUseGap",
    "KeyLastUsePoll",
    "KeyMetadata",
    "KeyPolicy",
    "KeyReference",
    "KeyRotation",
    "KeyRotationEvent",
    "PolicyDocument",
    "PolicyLint",
    "Resource",
    "ResourceKey",
    "ResourcePolicy",
    "RuleResult",
    "Run",
    "ScopeCoverage",
    "ShadowTrail",
    "Tag",
    "Trail",
    "TrailScan",
    "TrailSelector",
    "TrailStatus",
    "VersionedTable",
    "versioned_tables",
]
