"""What settings ask of reports, looked at before a crawl: a mistake must not wait for the end of the night."""

from __future__ import annotations

from models.errors import UserError
from models.settings import Settings


class UnknownFrameworkError(UserError):
    """The settings choose a framework that there is not."""

    exit_code = 2


def check(settings: Settings) -> None:
    """Read everything that the settings name: rules with their parameters, waivers, profiles of vendors, frameworks.

    Raises a UserError with exit code 2 for what cannot be used.
    """
    from reports.rules.loader import load_rules
    from reports.rules.waivers import load_waivers
    from reports.vendors.assignments import uses

    load_waivers(settings, load_rules(settings))
    uses(settings)
    check_frameworks(settings)


def check_frameworks(settings: Settings) -> None:
    """Raises UnknownFrameworkError."""
    from reports.rules.framework_loader import load_frameworks

    found = {framework.framework_id for framework in load_frameworks()}
    for name in settings.report.frameworks:
        if name not in found:
            known = ", ".join(sorted(found))
            raise UnknownFrameworkError(f"report.frameworks: there is no framework {name!r}; there are: {known}")
