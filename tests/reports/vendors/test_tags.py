"""Tests of keys that are selected by tags (Plerion): modes, delegation, unread tags."""

from __future__ import annotations

import json

import pytest

from tests.reports.conftest import SHOP
from tests.reports.vendors.organization import TAGS, Scenarios, findings, results


@pytest.mark.parametrize(
    "case", range(len(TAGS)), ids=lambda case: "-".join((TAGS[case][0], *TAGS[case][1].values(), TAGS[case][3]))
)
@pytest.mark.parametrize("configured", [True, False])
def test_tags_and_delegation(scenarios: Scenarios, case: int, configured: bool) -> None:
    """The mode comes from the settings or the role's policy; tags have no effect if the key policy does not delegate."""
    mode, _, _, result = TAGS[case]
    use = {"accounts": [SHOP], "parameters": {"mode": mode}} if configured else None
    [row] = [row for row in scenarios.check(f"tags {case}", "plerion", use) if row["subject_type"] == "key"]
    assert row["result"] == result, row["reason"]
    if result == "blocked_by_policy":
        assert [statement["Sid"].split()[1] for statement in json.loads(f"[{row['statement']}]")] == [
            "PlerionApplianceRole",
            "PlerionAccessRole",
        ]


def test_a_mode_other_than_the_roles_mode(scenarios: Scenarios) -> None:
    """If the role's policy has another mode than the settings, the vendor can access the wrong keys."""
    rows = scenarios.check("mode", "plerion", {"accounts": [SHOP], "parameters": {"mode": "SELECTED_KEYS"}})
    assert results(rows) == ["over_shared"]
    assert findings(rows) == {"mode"}


def test_unread_tags_are_unknown(scenarios: Scenarios) -> None:
    """A key whose tags could not be read is neither denied nor accessible."""
    [row] = [
        row for row in scenarios.check("unread tags", "plerion", {"accounts": [SHOP]}) if row["subject_type"] == "key"
    ]
    assert row["result"] == "unknown"
    assert "kms:ListResourceTags failed" in row["reason"]
    assert "last known" not in row["reason"]
