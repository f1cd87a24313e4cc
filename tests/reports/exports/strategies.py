"""Hypothesis strategies for findings: any text that a database can store, and every combination of missing values."""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st

from models.severities import SEVERITIES
from reports.exports.common import RunInfo
from reports.rules.findings import STATUSES, FindingRecord

RUN_INFO = RunInfo(
    run_id=7,
    started_at=dt.datetime(2026, 11, 22, 3),  # noqa: DTZ001 - DuckDB gives times without a zone, in UTC
    version="0.1.0",
    organization="o-exampleorg1",
    management_account="123456789012",
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["", " ", "=1+1", "[a](http://b)", "{0}", "../../x", "\x00\x1b[2J", "\u202eabc", "x" * 3_000, "é" * 2_100]
)
SAID = TEXT.filter(bool)
_MOMENT = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2026, 11, 22, 3))  # noqa: DTZ001 - as above
_ACCOUNT = st.from_regex(r"[0-9]{12}", fullmatch=True)
_REGION = st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1", "global", "*"])
_ARN = st.builds(
    "arn:{}:{}:eu-west-1:{}:{}".format, st.sampled_from(["aws", "aws-cn", "x"]), SAID, _ACCOUNT, SAID
)  # fmt: skip


def lines(text: str) -> list[str]:
    """The lines of JSON Lines; splitlines() would also split at characters that a text may contain."""
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def findings() -> st.SearchStrategy[FindingRecord]:
    """Findings with any values."""
    return st.builds(
        FindingRecord,
        rule_id=st.from_regex(r"[a-z]+(-[a-z]+)*", fullmatch=True) | st.just("r" * 600),
        title=SAID,
        severity=st.sampled_from(SEVERITIES),
        family=st.none() | SAID,
        status=st.sampled_from(STATUSES),
        unwaived_status=st.sampled_from(["pass", "fail", "unknown", "not_applicable"]),
        resource_arn=_ARN | SAID,
        resource_type=st.none() | SAID | st.sampled_from(["AWS::KMS::Key", "account", "account-region"]),
        resource_name=TEXT,
        account_id=st.none() | _ACCOUNT,
        account_name=st.none() | TEXT,
        ou_path=st.none() | TEXT,
        region=st.none() | _REGION,
        key_arn=st.none() | _ARN,
        reason=TEXT,
        owner=st.none() | TEXT,
        first_failed=st.none() | _MOMENT,
        last_seen=st.none() | _MOMENT,
        resolved_at=st.none() | _MOMENT,
        reopened=st.integers(0, 9),
        age_days=st.none() | st.integers(0, 9_999),
        since=st.none() | _MOMENT,
        waiver=st.none() | TEXT,
        waived_until=st.none() | st.dates(),
        why=st.none() | TEXT,
        fix=st.none() | TEXT,
        console=st.none() | TEXT,
        cli=st.none() | TEXT,
        terraform=st.none() | TEXT,
        frameworks=st.lists(SAID, max_size=40),
    )
