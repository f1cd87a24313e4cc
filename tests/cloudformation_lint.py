"""cfn-lint for the tests of templates. It imports a computer algebra system, which costs each test process a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfnlint.match import Match

REGIONS = ["us-east-1", "eu-west-1"]


def cloudformation_lint(template: str, *checks: str) -> list[Match]:
    """Return what cfn-lint reports of a template for two regions; with additional checks, such as `I`."""
    from cfnlint.api import ManualArgs, lint

    matches: list[Match] = lint(template, config=ManualArgs(regions=REGIONS, include_checks=list(checks)))
    return matches
