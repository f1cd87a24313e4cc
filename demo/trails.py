"""CloudTrail in the demo organization: an organization trail, a trail without KMS events, and an unreadable trail."""

from __future__ import annotations

from collections.abc import Mapping

from demo.account_region_builder import AccountRegion


def create_trails(account_regions: Mapping[str, AccountRegion]) -> dict[str, str]:
    """Create the trails. Returns their ARNs by the field names of `demo.organization.World`."""
    management, payments, platform = (
        account_regions[name].in_region("us-east-1") for name in ("management", "payments", "platform")
    )
    key = management.key("audit-trail", Description="Log files of the organization's trail", rotation_days=365)
    everything = management.trail(
        "northwind-organization", management.bucket("northwind-trail", "AES256"), key=key, IsOrganizationTrail=True
    )
    without_kms = payments.trail("payments-audit", payments.bucket("northwind-payments-trail"), without_kms=True)
    changes = platform.trail("platform-changes", platform.bucket("northwind-platform-trail"), IsMultiRegionTrail=False)
    only_changes = [{"Field": "eventCategory", "Equals": ["Management"]}, {"Field": "readOnly", "Equals": ["false"]}]
    platform.client("cloudtrail").put_event_selectors(
        TrailName=changes, AdvancedEventSelectors=[{"Name": "Changes", "FieldSelectors": only_changes}]
    )
    return {"organization_trail": everything, "trail_without_kms": without_kms, "silent_trail": changes}
