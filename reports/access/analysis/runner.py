"""Questions to the access engine, asked in all processors at once, and its answers as rows of the ledger."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from reports.access.engine.grant_analysis import analyse_grant, constraint_scope
from reports.access.engine.model import Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Policy, parse

_WORTH_PROCESSES = 2_000
_CHUNK = 250
_OUTSIDE = frozenset({Access.ORGANIZATION, Access.VENDOR, Access.EXTERNAL})

PARTY, GRANT, SCOPE, GRANTEE, RETIRING = "{party}", "{grant}", "{scope}", "{grantee}", "{retiring}"
"""What differs among those that share an analysis, and is filled in when it is read."""


@dataclass(frozen=True, slots=True)
class Question:
    """One policy on one key, or one grant on one key whose policy may take it away again."""

    analysis_id: bytes
    received: str | None
    """The key policy's text; None for a grant that no Deny can touch."""
    facts: KeyFacts
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of access_verdict and policy_lint."""

    analysis_id: bytes
    verdicts: list[dict[str, Any]]
    lint_findings: list[dict[str, Any]]


def answers(questions: Sequence[Question], organization: Organization) -> Iterator[Answer]:
    """Ask the engine; parties of the organization are left out, because who is who is told when answers are read."""
    nameless = replace(organization, parties={})
    if len(questions) < _WORTH_PROCESSES:
        yield from (_answer(question, nameless) for question in questions)
        return
    chunks = [questions[start : start + _CHUNK] for start in range(0, len(questions), _CHUNK)]
    workers = max(1, min(len(chunks), len(os.sched_getaffinity(0))))
    context = multiprocessing.get_context("spawn")  # a fork would share the connections of this process
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(nameless,)) as pool:
        for found in pool.map(_chunk, chunks):
            yield from found


_ORGANIZATION: list[Organization] = []


def _begin(organization: Organization) -> None:
    _ORGANIZATION[:] = [organization]


def _chunk(questions: Sequence[Question]) -> list[Answer]:
    return [_answer(question, _ORGANIZATION[0]) for question in questions]


@lru_cache(maxsize=4_096)
def _parsed(received: str) -> Policy:
    return parse(received)


def _answer(question: Question, organization: Organization) -> Answer:
    identity = {"analysis_id": question.analysis_id}
    policy = _parsed(question.received) if question.received is not None else None
    if question.grant is not None:
        found = analyse_grant(question.grant, question.facts, organization, policy)
        rows = [_row(_templated(verdict, question.grant)) for verdict in found]
        return Answer(question.analysis_id, [identity | {"ordinal": n} | row for n, row in enumerate(rows)], [])
    analysis = analyse_policy(policy or Policy(readable=False), question.facts, organization)
    lint_findings = [
        identity
        | {
            "ordinal": n,
            "code": one.code,
            "source_id": one.source_id,
            "statement_index": one.statement_index,
            "message": one.message,
        }
        for n, one in enumerate(analysis.lint_findings)
    ]
    rows = [_row(verdict) for verdict in analysis.verdicts]
    return Answer(question.analysis_id, [identity | {"ordinal": n} | row for n, row in enumerate(rows)], lint_findings)


def _templated(verdict: Verdict, grant: Grant) -> Verdict:
    """With marks for what grants of one shape do not share."""
    scope = (
        SCOPE
        if verdict.conditions and verdict.conditions == constraint_scope(grant.constraints) and _plain(grant)
        else verdict.conditions
    )
    principal = verdict.principal
    if ":assumed-role/" in principal:
        principal = GRANTEE if principal == grant.grantee_principal else RETIRING
    return replace(verdict, source_id=GRANT, conditions=scope, principal=principal)


def _plain(grant: Grant) -> bool:
    """Whether the scope can be told from the constraints by SQL."""
    text = grant.constraints or ""
    return (
        "\\" not in text
        and "cannot be read" not in constraint_scope(text)
        and "not known here" not in constraint_scope(text)
    )


def _row(verdict: Verdict) -> dict[str, Any]:
    if verdict.access in _OUTSIDE and verdict.account is not None:
        verdict = replace(verdict, access=Access.EXTERNAL, party=PARTY)
    witness = verdict.witness
    return {
        "access": verdict.access.value,
        "principal": verdict.principal,
        "principal_account": verdict.account,
        "operations": _operations(verdict.operations),
        "source_id": verdict.source_id,
        "statement_index": verdict.statement_index,
        "conditions": verdict.conditions,
        "reason": verdict.reason,
        "witness": None
        if witness is None
        else _json(
            {
                "caller": witness.caller,
                "account": witness.account,
                "operation": witness.operation,
                "context": dict(witness.context),
            }
        ),
        "message": verdict.message,
    }


@lru_cache(maxsize=65_536)
def _operations(listed: tuple[str, ...]) -> str:
    return _json(listed)


def _json(value: Any) -> str:
    """Canonical JSON, without what a process would have to load for the ledger's own."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
