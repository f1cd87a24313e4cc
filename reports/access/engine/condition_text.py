"""What narrows an access, in short English."""

from __future__ import annotations

from collections.abc import Iterable

from reports.access.engine.conditions import Element

_ONLY = {
    "kms:viaservice": "through {}",
    "aws:sourceip": "from {}",
    "aws:vpcsourceip": "from {} in a VPC",
    "aws:sourcevpc": "from VPC {}",
    "aws:sourcevpce": "through VPC endpoint {}",
    "aws:sourcearn": "for {}",
    "aws:sourceaccount": "for account {}",
    "aws:sourceorgid": "for organization {}",
    "aws:sourceorgpaths": "for organization path {}",
    "aws:principalarn": "as {}",
    "aws:principalorgid": "from organization {}",
    "aws:principalorgpaths": "from organization path {}",
    "aws:principalservicename": "by service {}",
    "aws:userid": "as the identity with the id {}",
    "aws:username": "as user {}",
    "aws:calledvia": "through {}",
    "kms:encryptioncontextkeys": "with the encryption context keys {}",
    "kms:granteeprincipal": "grants to {}",
    "kms:granteeserviceprincipal": "grants to {}",
    "kms:retiringprincipal": "grants that {} can retire",
    "kms:grantoperations": "grants of {}",
    "kms:grantconstrainttype": "grants with the constraint {}",
    "kms:requestalias": "by the alias {}",
    "kms:resourcealiases": "while the key has the alias {}",
    "kms:calleraccount": "from account {}",
    "aws:principalaccount": "from account {}",
}
_COMPARED = {
    "equals": "is",
    "lessthan": "is less than",
    "lessthanequals": "is at most",
    "greaterthan": "is more than",
    "greaterthanequals": "is at least",
}


def joined(values: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``; a long list is cut."""
    listed = list(values)
    if len(listed) > 4:
        listed = [*listed[:3], f"{len(listed) - 3} others"]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}" if listed else "nothing"


def phrase(element: Element) -> str:
    """One condition as a restriction: ``only through s3.eu-west-1.amazonaws.com``."""
    values = joined(element.values)
    if element.unreadable or element.family == "null" or element.every or element.if_exists:
        return f"only if {clause(element)}"
    word = "not" if element.negated else "only"
    if element.key in _ONLY:
        return f"{word} {_ONLY[element.key].format(values)}"
    if element.key.startswith("kms:encryptioncontext:"):
        name = element.written.split(":", 2)[2]
        return f"encryption context {name}{'≠' if element.negated else '='}{values}"
    if element.key.startswith("aws:principaltag/"):
        return f"{word} principals with the tag {element.written.partition('/')[2]}={values}"
    if element.key.startswith("aws:resourcetag/"):
        return f"{word} while the key has the tag {element.written.partition('/')[2]}={values}"
    if element.key == "kms:grantisforawsresource" and element.values[0].lower() == "true":
        return "only grants for resources of AWS services"
    return f"only if {clause(element)}"


def clause(element: Element) -> str:
    """One condition as a clause: ``aws:SourceVpce is not vpce-1``."""
    if element.unreadable:
        return f"{element.operator} {element.written}".strip()
    if element.family == "null":
        return f"{element.written} is {'absent' if element.values[0].lower() == 'true' else 'present'}"
    verb = _COMPARED.get(element.family.partition(":")[2], "is")
    if element.negated:
        verb += " not"
    start = f"every value of {element.written}" if element.every else element.written
    ending = " where present" if element.if_exists else ""
    return f"{start} {verb} {joined(element.values)}{ending}"


def narrowed(elements: Iterable[Element], exceptions: Iterable[tuple[str, Iterable[Element]]]) -> str:
    """Conditions of an Allow, and denials with the name of their statement, as one text."""
    parts = [phrase(element) for element in elements]
    for name, conditions in exceptions:
        parts.append(f"except if {' and '.join(map(clause, conditions))} (denied by {name})")
    return "; ".join(dict.fromkeys(parts))
