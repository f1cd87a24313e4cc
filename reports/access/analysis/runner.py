"""Run the access engine on all processors, and convert its results into ledger rows."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import orjson

from reports.access.engine.grant_analysis import (
    INVALID_CONSTRAINT,
    UNKNOWN_CONSTRAINT,
    analyse_grant,
    constraint_conditions,
)
from reports.access.engine.model import OTHER_ACCOUNT, Access, Grant, KeyFacts, Organization, Verdict
from reports.access.engine.policy_analysis import analyse_policy
from reports.access.engine.policy_parser import Policy, parse

_MIN_PARALLEL = 2_000
_CHUNK_SIZE = 250
_CHUNKS_PER_WORKER = 4

PARTY, GRANT, CONDITIONS, GRANTEE, RETIRING = "{party}", "{grant}", "{conditions}", "{grantee}", "{retiring}"
"""Placeholders for what differs among grants that share an analysis; views replace them."""


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """A policy on a key, or a grant on a key whose policy can deny it."""

    analysis_id: bytes
    facts: KeyFacts
    policy_hash: bytes | None
    """The key policy; None for a grant that no Deny can affect."""
    grant: Grant | None = None
    policy_analysis_id: bytes | None = None
    """The analysis of the key policy whose Deny statements affect the grant."""

    def row(self) -> dict[str, Any]:
        """The row for access_analysis, without the engine's version."""
        return {
            "analysis_id": self.analysis_id,
            "path": "grant" if self.grant else "policy",
            "policy_hash": self.policy_hash,
            "policy_analysis_id": self.policy_analysis_id,
        }


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """Rows for access_verdict and policy_lint."""

    verdicts: list[dict[str, Any]]
    lint_findings: list[dict[str, Any]]


def run_analyses(
    requests: Iterable[AnalysisRequest],
    policy_texts: Callable[[set[bytes]], Mapping[bytes, str]],
    organization: Organization,
) -> Iterator[tuple[AnalysisRequest, AnalysisResult]]:
    """Analyze all requests, without the known parties: parties are resolved when the results are queried.

    ``policy_texts`` returns key policies as received, by hash. Requests and texts are read while results are consumed: all at
    once need too much memory.
    """
    without_parties = replace(organization, parties={})
    requests = iter(requests)
    first = list(islice(requests, _MIN_PARALLEL))
    if len(first) < _MIN_PARALLEL:
        for request, received in zip(first, _received(first, policy_texts), strict=True):
            yield request, _analyze(request, received, without_parties)
        return
    requests = chain(first, requests)
    del first
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")  # a fork would share this process's connections
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_init_worker, initargs=(without_parties,)
    ) as pool:
        earlier: Iterable[tuple[AnalysisRequest, AnalysisResult]] = ()
        while part := list(islice(requests, workers * _CHUNKS_PER_WORKER * _CHUNK_SIZE)):
            results = pool.map(_analyze_in_worker, part, _received(part, policy_texts), chunksize=_CHUNK_SIZE)
            yield from earlier  # while the workers analyze this part
            earlier = zip(part, results, strict=True)
        yield from earlier


def _received(
    requests: Sequence[AnalysisRequest], policy_texts: Callable[[set[bytes]], Mapping[bytes, str]]
) -> list[str | None]:
    """The key policy of each request, or None if it has none."""
    texts = policy_texts({request.policy_hash for request in requests if request.policy_hash})
    return [texts[request.policy_hash] if request.policy_hash else None for request in requests]


_ORGANIZATION: list[Organization] = []


def _init_worker(organization: Organization) -> None:
    _ORGANIZATION[:] = [organization]


def _analyze_in_worker(request: AnalysisRequest, received: str | None) -> AnalysisResult:
    return _analyze(request, received, _ORGANIZATION[0])


@lru_cache(maxsize=4_096)
def _parsed(received: str) -> Policy:
    return parse(received)


def _analyze(request: AnalysisRequest, received: str | None, organization: Organization) -> AnalysisResult:
    def numbered(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"analysis_id": request.analysis_id, "ordinal": n} | row for n, row in enumerate(rows)]

    policy = _parsed(received) if received is not None else None
    if request.grant is not None:
        verdicts = analyse_grant(request.grant, request.facts, organization, policy)
        return AnalysisResult(numbered(_row(_to_template(verdict, request.grant)) for verdict in verdicts), [])
    analysis = analyse_policy(policy or Policy(readable=False), request.facts, organization)
    return AnalysisResult(numbered(map(_row, analysis.verdicts)), numbered(map(asdict, analysis.lint_findings)))


def _to_template(verdict: Verdict, grant: Grant) -> Verdict:
    """Replace what differs among grants of the same shape with placeholders."""
    conditions = verdict.conditions
    if conditions and _can_render_in_sql(grant):
        # The exceptions of single operations follow.
        conditions = CONDITIONS + conditions.removeprefix(constraint_conditions(grant.constraints))
    principal = verdict.principal
    if ":assumed-role/" in principal:
        principal = GRANTEE if principal == grant.grantee_principal else RETIRING
    return replace(verdict, source_id=GRANT, conditions=conditions, principal=principal)


def _can_render_in_sql(grant: Grant) -> bool:
    """Whether the macro grant_conditions describes the constraints like constraint_conditions does."""
    constraints = grant.constraints or ""
    conditions = constraint_conditions(constraints)
    return "\\" not in constraints and INVALID_CONSTRAINT not in conditions and UNKNOWN_CONSTRAINT not in conditions


def _row(verdict: Verdict) -> dict[str, Any]:
    if verdict.access in OTHER_ACCOUNT and verdict.account is not None:
        verdict = replace(verdict, access=Access.EXTERNAL, party=PARTY)
    return {
        "access": verdict.access.value,
        "principal": verdict.principal,
        "principal_account": verdict.account,
        "operations": _operations(verdict.operations),
        "source_id": verdict.source_id,
        "statement_index": verdict.statement_index,
        "conditions": verdict.conditions,
        "reason": verdict.reason,
        "witness": None if verdict.witness is None else _json(asdict(verdict.witness)),
        "message": verdict.message,
    }


@lru_cache(maxsize=65_536)
def _operations(operations: tuple[str, ...]) -> str:
    return _json(operations)


def _json(value: Any) -> str:
    """Return canonical JSON; workers avoid importing the ledger's own encoder."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
