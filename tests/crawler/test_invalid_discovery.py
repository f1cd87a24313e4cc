"""Invalid responses about the organization, sessions, regions and the last use of keys: the crawl of all others goes on."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from crawler.aws.errors import AwsError, RequiredCallError
from crawler.discovery import LIST_ACCOUNT_TAGS
from crawler.iam_policies import operations as declared_operations
from models.errors import UserError
from models.tables.keys import KeyLastUseGap, KeyLastUsePoll
from models.tables.runs import Cause, Gap
from models.versioned import versioned_tables
from tests.crawler.empty_ledger import Ledger
from tests.crawler.http_stub import KEY_ID, MANAGEMENT, MEMBER
from tests.crawler.invalid_values import Case, cases
from tests.crawler.scripted_aws import aws_error
from tests.crawler.wire_aws import ABSENT, WireAws, replaced
from tests.crawler.wire_aws import Path as MemberPath
from tests.crawler.wire_organization import OTHER, answer, crawled

SERVICES = ("sts:", "organizations:", "account:", "ec2:", "kms:GetKeyLastUsage")
FATAL = ("sts:GetCallerIdentity", "organizations:ListAccounts")
"""Without a response to these there is nothing to crawl."""
OPERATIONS = declared_operations()
Facts = dict[tuple[str, tuple[Any, ...]], Mapping[str, Any]]


def open_facts(ledger: Ledger) -> Facts:
    """Return the open facts by table and natural key, without gaps."""
    return {
        (name, tuple(row[column] for column in model.natural_key)): {name: row[name] for name in model.value_columns()}
        for name, model in versioned_tables().items()
        if model not in {Gap, KeyLastUseGap}
        for row in ledger.current(model)
    }


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Facts]:
    """The file of a ledger after a crawl without invalid responses, and its open facts."""
    ledger = Ledger(tmp_path_factory.mktemp("usual") / "ledger.db")
    assert crawled(WireAws(answer), ledger.path).exit_code == 0
    facts = open_facts(ledger)
    with ledger.engine.begin() as connection:
        # All keys are due again.
        connection.execute(update(KeyLastUsePoll).values(polled_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    ledger.close()
    return ledger.path, facts


def every_case(path: Path, source: str) -> dict[str, deque[Case]]:
    """Return the changes of every member that a crawl reads outside the scopes, by call."""
    aws = WireAws(answer, reads={})
    crawled(aws, path, source)
    assert aws.reads is not None
    found = {}
    for call, reads in aws.reads.items():
        operation, params = aws.called[call]
        response = answer(operation, params)
        if call.startswith(SERVICES) and isinstance(response, dict):
            found[call] = deque(cases(call, operation, response, reads))
    return found


def problems(aws: WireAws, made: list[Case], path: Path, before: Facts, source: str) -> Iterator[str]:
    """Crawl with changed responses; yield how the result differs from what is allowed."""
    aws.changes = {case.call: partial(replaced, path=case.path, new=case.value) for case in made}
    exit_code = None
    try:
        exit_code = crawled(aws, path, source).exit_code
    except UserError as error:
        if not any(isinstance(error, RequiredCallError) and str(case.operation) in FATAL for case in made):
            yield f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - any error would end the crawl of all accounts
        yield f"{type(error).__name__}: {error}"
    ledger = Ledger(path)
    after = open_facts(ledger)
    ledger.close()
    if exit_code == 0 and any(case.must_fail and not case.call.startswith(("ec2:", "account:")) for case in made):
        # The regions come from the other source.
        yield "no gap"
    meant = {str(case.value) for case in made if not case.must_fail}
    accounts = {text for case in made if not case.must_fail for text in accounts_of(case)}
    has_tag_cases = any(case.operation is LIST_ACCOUNT_TAGS for case in made)
    for key in before.keys() | after.keys():
        row = after.get(key, before.get(key, {}))
        difference = _difference(before.get(key, {}), after.get(key, {}))
        if has_tag_cases and difference == {"selection": ("crawled", "excluded")}:
            # A filter that cannot be evaluated excludes the account.
            continue
        values = {str(value) for value in row.values()}
        if difference and not values & meant and not any(text in value for text in accounts for value in values):
            yield f"changed {key}: {difference}"


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: (before.get(name), after.get(name)) for name in {*before, *after} if before.get(name) != after.get(name)
    }


def accounts_of(case: Case) -> list[str]:
    """Return the accounts that a valid change of a response affects."""
    return (
        [MANAGEMENT, MEMBER, OTHER]
        if case.call.startswith(("organizations:", "account:", "ec2:"))
        else case.call.split()[1:]
    )


def check(stride: int, usual: tuple[Path, Facts], directory: Path) -> tuple[set[str], int, list[str]]:
    """Make every n-th change; returns the operations, the number of changes and the violations."""
    operations: set[str] = set()
    count, found = 0, []
    for source in ("ec2", "account"):
        path = directory / f"{source}.db"
        shutil.copyfile(usual[0], path)
        remaining = {call: deque(list(queue)[::stride]) for call, queue in every_case(path, source).items()}
        aws = WireAws(answer)
        while remaining := {call: queue for call, queue in remaining.items() if queue}:
            alone = next((call for call in remaining if call.startswith(FATAL)), None)
            made = [remaining[call].popleft() for call in ([alone] if alone else remaining)]
            shutil.copyfile(usual[0], path)
            here = problems(aws, made, path, usual[1], source)
            found += [f"{problem}\n    in {[str(case) for case in made]}" for problem in here]
            count += len(made)
            operations |= {str(case.operation) for case in made}
    return operations, count, found


@pytest.mark.deep
def test_every_invalid_member_of_the_organization_is_a_gap(usual: tuple[Path, Facts], tmp_path: Path) -> None:
    """Members of responses outside the scopes have other values: the crawl ends with gaps, and no fact is changed or closed."""
    operations, count, found = check(29, usual, tmp_path)
    assert not found, "\n".join(found[:20])
    assert (len(operations), count > 130) == (11, True), (operations, count)


ENDPOINT, LATER = "check aws.endpoint_url and the proxy", "run again later"
FAILURES: list[tuple[str, Any, tuple[int, str]]] = [
    ("sts:GetCallerIdentity", {}, (4, ENDPOINT)),
    ("sts:GetCallerIdentity", aws_error("Throttling", "Rate exceeded"), (4, LATER)),
    ("sts:GetCallerIdentity", aws_error("InternalFailure", "", 500), (4, LATER)),
    ("sts:GetCallerIdentity", AwsError(Cause.UNREACHABLE, "Timeout", "no route"), (4, "check aws.region")),
    ("sts:GetCallerIdentity", aws_error("RegionDisabledException", "no"), (2, "correct aws.region")),
    ("sts:GetCallerIdentity", aws_error("InvalidClientTokenId", "no"), (2, "renew them")),
    ("sts:GetCallerIdentity", aws_error("ExpiredToken", "no"), (2, "renew them")),
    ("organizations:ListAccounts", {"Accounts": []}, (4, ENDPOINT)),
    ("organizations:ListAccounts", {"Accounts": [{"Id": "x"}]}, (4, ENDPOINT)),
    ("organizations:DescribeOrganization", aws_error("ThrottlingException", "Rate exceeded"), (4, LATER)),
]


@pytest.mark.parametrize(("name", "response", "expected"), FAILURES)
def test_a_crawl_that_cannot_start_names_the_fix(
    name: str, response: Any, expected: tuple[int, str], usual: tuple[Path, Facts], tmp_path: Path
) -> None:
    """The exit code is 2 if the configuration or the credentials have to change, else 4: the same crawl may succeed later."""
    (exit_code, fix), ledger = expected, tmp_path / "ledger.db"
    shutil.copyfile(usual[0], ledger)
    aws = WireAws(lambda operation, params: response if str(operation) == name else answer(operation, params))
    with pytest.raises(UserError) as error_info:
        crawled(aws, ledger)
    assert (error_info.value.exit_code, fix in error_info.value.message) == (exit_code, True), error_info.value.message
    if exit_code == 4:
        assert "reject" not in error_info.value.message


EXAMPLES: list[tuple[str, MemberPath, Any]] = [
    ("organizations:ListAccounts", ("Accounts", 1, "Id"), 42),
    ("organizations:ListAccounts", ("Accounts", 1, "Arn"), ABSENT),
    ("organizations:ListAccounts", ("Accounts", 1, "JoinedTimestamp"), 1e18),
    ("organizations:ListAccounts", ("Accounts", 1), "text"),
    ("organizations:ListAccounts", ("NextToken",), {"x": 1}),
    ("organizations:DescribeOrganization", ("Organization", "MasterAccountId"), MEMBER),
    ("organizations:DescribeOrganization", ("Organization",), []),
    ("organizations:ListRoots", ("Roots", 0, "Name"), 42),
    (f"organizations:ListTagsForResource {MEMBER}", ("Tags", 0, "Key"), []),
    ("sts:AssumeRole", ("Credentials", "SessionToken"), "line\nbreak"),
    ("ec2:DescribeRegions", ("Regions", 0, "RegionName"), "localhost/x"),
    ("kms:GetKeyLastUsage", ("KeyLastUsage",), ABSENT),
    ("kms:GetKeyLastUsage", ("KeyLastUsage", "Timestamp"), -1e18),
]

FAST = {name: number for number, (name, _, _) in reversed([*enumerate(EXAMPLES)])}.values()
"""The first example of each operation."""
CASES = [
    pytest.param(
        *example, id=f"{example[0]}-{example[1][-1]}-{number}", marks=[] if number in FAST else [pytest.mark.deep]
    )
    for number, example in enumerate(EXAMPLES)
]


@pytest.mark.parametrize(("name", "path", "value"), CASES)
def test_the_crawl_goes_on(name: str, path: MemberPath, value: Any, usual: tuple[Path, Facts], tmp_path: Path) -> None:
    """One invalid member ends the crawl with exit code 0 or 3; no fact is changed or closed."""
    ledger = tmp_path / "ledger.db"
    shutil.copyfile(usual[0], ledger)
    aws = WireAws(answer)
    if name.startswith("kms:"):
        name = f"{name} arn:aws:kms:eu-west-1:{MEMBER}:key/{KEY_ID}"
    operation = next(operation for operation in OPERATIONS if name.startswith(str(operation)))
    case = Case(name, operation, path, "example", value, must_fail=True)
    assert list(problems(aws, [case], ledger, usual[1], "ec2")) == []
    assert name in aws.calls
