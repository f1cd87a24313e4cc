"""An oracle that does not evaluate requests: the verdicts that give a principal an operation, by their fields."""

from __future__ import annotations

from collections.abc import Iterable

from reports.access.engine.model import Access, Organization, Verdict
from reports.access.engine.policy_parser import Named
from reports.access.engine.principals import Principal, classify, role_of


def paths_of(
    verdicts: Iterable[Verdict], principal: str, operation: str, organization: Organization | None = None
) -> tuple[Verdict, ...]:
    """Return all access paths that give a principal an operation.

    ``principal`` is written as in policies; an account (root or bare id) stands for all of its principals. Public paths
    apply to every principal, paths of the organization to its accounts, paths of an account to its principals.
    """
    classified = classify(Named("AWS", principal))
    name = operation.lower() if ":" in operation else f"kms:{operation.lower()}"
    return tuple(
        verdict
        for verdict in verdicts
        if any(allowed_name.lower() == name for allowed_name in verdict.operations)
        and _applies_to(verdict, classified, organization)
    )


def _applies_to(verdict: Verdict, principal: Principal, organization: Organization | None) -> bool:
    written = principal.written
    if verdict.principal == written and written != "*":
        return True
    if verdict.access is Access.DELETED:
        return False
    if verdict.access in (Access.PUBLIC, Access.PUBLIC_VIA_SERVICE):
        return principal.type not in {"service", "deleted", "unknown"}
    if written == "*":
        return verdict.principal == "*" and verdict.account is None
    if principal.account is None:
        return False
    if verdict.account == principal.account:
        grantee = classify(Named("AWS", verdict.principal))
        whole_account = principal.type == "account" or grantee.type in {"account", "public"}
        return whole_account or role_of(written) == verdict.principal
    if verdict.principal == "*" and verdict.access is Access.EXTERNAL and verdict.account is None:
        # restricted to a network or an organization of the external principal
        return organization is None or principal.account not in organization.accounts
    if verdict.access is Access.ORGANIZATION and verdict.account is None:
        return organization is not None and principal.account in organization.accounts
    return False
