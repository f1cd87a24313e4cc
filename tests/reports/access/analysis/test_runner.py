"""Analyses in this process and in worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from reports.access.analysis import runner
from reports.access.analysis.runner import AnalysisRequest, run_analyses
from reports.access.engine.model import KeyFacts, Organization

ACCOUNT = "111122223333"
COUNT = 60


def requests(read: list[int]) -> Iterator[AnalysisRequest]:
    """Requests with a policy each; notes in ``read`` which ones were read."""
    for number in range(COUNT):
        read.append(number)
        facts = KeyFacts(f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{number}", ACCOUNT)
        yield AnalysisRequest(number.to_bytes(2), facts, policy_hash=number.to_bytes(2))


def policy_texts(digests: set[bytes]) -> dict[bytes, str]:
    """A policy for each hash that names the hash."""
    return {
        digest: json.dumps(
            {
                "Statement": {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{int.from_bytes(digest)}"},
                    "Action": "kms:Decrypt",
                    "Resource": "*",
                }
            }
        )
        for digest in digests
    }


def test_workers_return_the_same_results_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes analyze parts of the requests, each with its own policy; only two parts are in memory at a time."""
    monkeypatch.setattr(runner, "_CHUNK_SIZE", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: {0, 1})
    organization = Organization(None, frozenset({ACCOUNT}))
    expected = list(run_analyses(requests([]), policy_texts, organization))
    assert [result.verdicts[0]["principal"].rpartition("/")[2] for _, result in expected] == list(
        map(str, range(COUNT))
    )
    monkeypatch.setattr(runner, "_MIN_PARALLEL", 1)
    read: list[int] = []
    results = run_analyses(requests(read), policy_texts, organization)
    first = next(results)
    assert len(read) == 16
    assert [first, *results] == expected
