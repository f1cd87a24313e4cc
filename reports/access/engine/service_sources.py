"""The accounts on whose behalf a statement lets AWS services call: the confused deputy, and access of foreign accounts.

aws:SourceAccount, aws:SourceArn, aws:SourceOrgID and aws:SourceOrgPaths describe one resource (IAM user guide, "The confused
deputy problem"), so their values belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.access.engine.automaton import Atom, Part, TooManyStatesError, walk
from reports.access.engine.conditions import Element, Value
from reports.access.engine.principals import mentioned_accounts
from reports.access.engine.solver import Call, Denies, elements_of, search
from reports.access.engine.wildcards import common_match, has_wildcard

SOURCE_KEYS = frozenset({"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths"})
ANY_ACCOUNT = "999999999998"
_ACCOUNT = (Part(frozenset({"account"}), alphabet="9876543210", minimum=12, exact=True),)


def mentioned_sources(elements: Sequence[Element]) -> tuple[list[str], list[str]]:
    """Return the accounts and organizations that conditions on the source name."""
    values = [(element.key, value) for element in elements if element.key in SOURCE_KEYS for value in element.values]
    accounts = {account for _, value in values for account in mentioned_accounts(value)}
    organizations = {value.partition("/")[0] for key, value in values if "org" in key}
    return sorted(accounts), sorted(name for name in organizations if not has_wildcard(name))


def example_accounts(elements: Sequence[Element], known: frozenset[str]) -> list[str]:
    """Return one unknown account for each combination of the conditions on the source's account, an arbitrary one first."""
    atoms = []
    for element in elements:
        if element.key == "aws:sourceaccount" and element.family in {"text", "like", "caseless"}:
            atoms.append(Atom("account", element.family, element.values))
        elif element.key == "aws:sourcearn" and element.family in {"text", "like", "arn"}:
            accounts = ((value.split(":", 5) + [""] * 5)[4] for value in element.values)
            atoms.append(Atom("account", "like", tuple(account or "*" for account in accounts)))
    try:
        examples = [texts[0] for texts in walk(_ACCOUNT, tuple(dict.fromkeys(atoms)), known).values()]
    except TooManyStatesError:
        examples = []
    return list(dict.fromkeys((ANY_ACCOUNT, *examples)))


def acts_for(
    elements: tuple[Element, ...],
    denies: Denies,
    call: Call,
    account: str,
    source_organization: str = "o-foreign0000",
) -> bool | None:
    """Whether a service can make the call on behalf of a resource of the account; None for unknown."""
    answers = set()
    for arn in _arns(elements_of(elements, denies), account):
        source: dict[str, Value] = {
            "aws:sourceaccount": account,
            "aws:sourcearn": arn,
            "aws:sourceorgid": source_organization,
            "aws:sourceorgpaths": (f"{source_organization}/r-example/",),
        }
        answers.add(
            search(elements, denies, Call(call.candidates, call.caller, call.operation, call.level, source)).answer
        )
    return True if True in answers else None if None in answers else False


def _arns(elements: Sequence[Element], account: str) -> Iterator[str]:
    yield f"arn:aws:sns:us-east-1:{account}:topic"
    for element in elements:
        for value in element.values if element.key == "aws:sourcearn" else ():
            # A wildcard in the rest of the ARN does not change the account.
            for fitting in (value, f"{value}:*") if value.count(":") < 5 else (value,):
                text = common_match(fitting, f"arn:*:*:*:{account}:*")
                if text is not None and text.split(":", 5)[4] == account:
                    yield text
