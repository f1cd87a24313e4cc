"""The printed policies, enforced by the test server: a crawl needs each of their actions, and no other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from benchmarks.fake_aws.client import FakeAws
from benchmarks.fake_aws.organization import READER_ROLE
from benchmarks.fake_aws.presets import Parameters, preset
from crawler.crawl import crawl
from crawler.iam_policies import NEVER, operations
from crawler.progress import Progress
from models.errors import UserError
from models.settings import load
from models.store.engine import connect
from models.tables.runs import Cause, Gap
from tests import command

Calls = set[tuple[str, str]]
"""Accounts and actions."""
SMALL = {
    "accounts": 2,
    "regions": ("us-east-1",),
    "opt_in": (),
    "adversarial": False,
    "keys_per_account_region": 2,
    "empty_pages": 0,
}
GENERATED = preset("tiny", seed=23, resources=0.3, paths=False, **SMALL)
"""A member account beside the crawler's own. No key policy denies a call, and ListAccounts returns no paths."""
RECORDED = preset("tiny", seed=5, resources=0, **SMALL)
"""The same with recorded resources: one secret has replicas."""
ONLY_RECORDED = {"secretsmanager:DescribeSecret"}
FALLBACKS = {"account:ListRegions": "ec2:DescribeRegions"}
"""Actions that are called only if another one is denied."""
SESSION_ACTIONS = {"sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"}
EVERY_ACTION = sorted(
    {operation.iam_action for operation in operations() if operation.name != "GetCallerIdentity"} | SESSION_ACTIONS
)


@dataclass(frozen=True)
class Outcome:
    """What a crawl called, and what its ledger says; the error of a crawl that could not start."""

    allowed: Calls
    denied: Calls
    gaps: Calls
    error: str = ""


@dataclass(frozen=True)
class Installation:
    """A settings file that uses every option, and an organization whose policies can be set."""

    fake: FakeAws
    directory: Path
    ledger: Path

    @property
    def hub(self) -> str:
        """The account of the crawler."""
        return self.fake.world.management.id

    @property
    def member(self) -> str:
        """The other account."""
        return self.fake.world.accounts[1].id

    @property
    def crawler_arn(self) -> str:
        """The identity that runs the crawler."""
        return f"arn:aws:iam::{self.hub}:user/kmsledger"

    def settings(self, **groups: Any) -> Path:
        """Write a settings file with these groups."""
        path = self.directory / f"settings-{len(list(self.directory.iterdir()))}.yaml"
        kinds = sorted({account.kind for account in self.fake.world.accounts})
        document = {
            "aws": {"endpoint_url": self.fake.url},
            "role": {
                "external_id": self.fake.world.parameters.external_id,
                "source_identity": "nightly",
                "session_tags": {"team": "security"},
            },
            "organization": {"include": {"tags": {"Environment": kinds}}},
            "crawl": {"iam": True},
            **groups,
        }
        document["crawl"] = {
            "processes": 1,
            "max_attempts": 1,
            "quota_share_percent": 100,
            "last_use": {"max_keys_per_run": 1},
            **document["crawl"],
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def printed(self, path: Path, *options: str) -> dict[str, Any]:
        """The document that `kmsledger permissions` prints for a settings file."""
        arguments = ("permissions", "--config", str(path), "--principal", self.crawler_arn, *options)
        done = command.run(*arguments, env={}, cwd=self.directory)
        assert (done.returncode, done.stderr) == (0, "")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def crawl(self, path: Path, document: dict[str, Any], *removed: str) -> Outcome:
        """Crawl into an empty ledger, with the printed policies less some actions."""
        (self.directory / "kmsledger.db").unlink(missing_ok=True)
        shutil.copy(self.ledger, self.directory / "kmsledger.db")
        roles = {"KmsInventoryReadOnly": document["member_role"]}
        if "reader_role" in document:
            roles[READER_ROLE] = document["reader_role"]
        self.fake.control.enforce(
            without(document["crawler"]["permissions_policy"], removed),
            **{
                name: {"permissions": without(role["permissions_policy"], removed), "trust": role["trust_policy"]}
                for name, role in roles.items()
            },
        )
        settings, error = load(path, {}), ""
        try:
            crawl(settings, "test", Progress(live=False))
        except UserError as failure:
            error = str(failure)
        engine = connect(settings.database)
        with engine.connect() as connection:
            was_called = Gap.cause != str(Cause.DISABLED_BY_CONFIG)
            rows = connection.execute(select(Gap.account_id, Gap.action).where(was_called)).all()
        engine.dispose()
        return Outcome(*self.fake.control.authorized(), {(row.account_id, row.action) for row in rows}, error)


def without(policy: dict[str, Any], removed: tuple[str, ...]) -> dict[str, Any]:
    """A policy that does not allow some actions."""
    statements = [
        {**statement, "Action": [action for action in statement["Action"] if action not in removed]}
        if statement["Effect"] == "Allow"
        else statement
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": statements}


def actions_of(document: dict[str, Any]) -> set[str]:
    """All actions that a printed document allows."""
    parts = [
        document["crawler"],
        document["member_role"],
        *([document["reader_role"]] if "reader_role" in document else []),
    ]
    return {
        action
        for part in parts
        for statement in part["permissions_policy"]["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }


def serve(
    parameters: Parameters, directory: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    with FakeAws(parameters) as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield Installation(fake, directory, ledger)


@pytest.fixture(scope="module")
def module_monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="module")
def generated(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, module_monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    yield from serve(GENERATED, tmp_path_factory.mktemp("generated"), sqlite_template, module_monkeypatch)


@pytest.fixture
def recorded(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    yield from serve(RECORDED, tmp_path, sqlite_template, monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(generated: Installation) -> tuple[Path, dict[str, Any], Outcome]:
    """Settings, printed policies, and a crawl with all of them."""
    path = generated.settings()
    document = generated.printed(path)
    return path, document, generated.crawl(path, document)


def test_the_printed_policies_are_sufficient_and_minimal(
    generated: Installation, undisturbed: tuple[Path, dict[str, Any], Outcome]
) -> None:
    """With the printed policies no call is denied, in the crawler's own account neither; nothing is allowed in vain."""
    _, document, outcome = undisturbed
    assert (outcome.denied, outcome.gaps, outcome.error) == (set(), set(), "")
    assert {account for account, _ in outcome.allowed} == {generated.hub, generated.member}
    called = {action for _, action in outcome.allowed}
    assert actions_of(document) - called == ONLY_RECORDED | set(FALLBACKS)
    assert actions_of(document) == set(EVERY_ACTION)


@pytest.mark.deep  # a crawl for each action
@pytest.mark.parametrize("action", sorted(set(EVERY_ACTION) - ONLY_RECORDED - {"ec2:DescribeRegions", *FALLBACKS}))
def test_a_missing_action_is_exactly_its_own_gap(
    generated: Installation, undisturbed: tuple[Path, dict[str, Any], Outcome], action: str
) -> None:
    """Without an action its calls are denied in every account that needs it, and the ledger has gaps of this action only."""
    path, document, complete = undisturbed
    outcome = generated.crawl(path, document, action)
    affected = {(account, called) for account, called in complete.allowed if called == action}
    assert affected
    assert outcome.denied == affected
    if action in {"organizations:DescribeOrganization", "organizations:ListAccounts"}:
        assert action in outcome.error  # the crawl cannot start: the error names the action
        assert outcome.gaps == set()
    elif action in SESSION_ACTIONS:
        assert outcome.gaps == {(generated.member, "sts:AssumeRole")}
    elif action == "kms:GetKeyLastUsage":
        assert outcome.gaps == set()  # a denied poll is a fact of the key, not a gap of the scope
    else:
        assert outcome.gaps == affected


@pytest.mark.deep  # two crawls
def test_regions_are_listed_by_one_of_two_actions(
    generated: Installation, undisturbed: tuple[Path, dict[str, Any], Outcome]
) -> None:
    """Without ec2:DescribeRegions the organization lists the regions; without both actions the accounts are gaps."""
    path, document, _ = undisturbed
    accounts = {generated.hub, generated.member}
    outcome = generated.crawl(path, document, "ec2:DescribeRegions")
    assert (outcome.gaps, outcome.denied) == (set(), {(account, "ec2:DescribeRegions") for account in accounts})
    assert (generated.hub, "account:ListRegions") in outcome.allowed
    outcome = generated.crawl(path, document, "ec2:DescribeRegions", "account:ListRegions")
    assert outcome.gaps == {(account, "ec2:DescribeRegions") for account in accounts}


@pytest.mark.deep  # two crawls
def test_replicas_of_secrets_need_an_action_of_their_own(recorded: Installation) -> None:
    """secretsmanager:DescribeSecret is called for secrets with replicas, and its absence is a gap."""
    path = recorded.settings()
    document = recorded.printed(path)
    (action,) = ONLY_RECORDED
    complete = recorded.crawl(path, document)
    assert (complete.denied, complete.gaps) == (set(), set())
    outcome = recorded.crawl(path, document, action)
    assert outcome.gaps == outcome.denied == {(recorded.hub, action), (recorded.member, action)}


@pytest.mark.deep  # a crawl
def test_the_minimal_tier_is_enough_for_a_crawl_without_options(recorded: Installation) -> None:
    """The policies of the minimal tier allow a crawl without optional reads; all their actions are called."""
    off = {"iam": False, "secret_policies": False, "last_use": {"enabled": False}}
    path = recorded.settings(
        crawl=off, role={"external_id": recorded.fake.world.parameters.external_id}, organization={}
    )
    document = recorded.printed(path, "--tier", "minimal")
    outcome = recorded.crawl(path, document)
    assert (outcome.denied, outcome.gaps) == (set(), set())
    called = {action for _, action in outcome.allowed}
    assert actions_of(document) - called == {"elasticache:ListTagsForResource"}  # no cache is recorded


@pytest.mark.deep  # a crawl
def test_a_reader_role_reads_the_organization(generated: Installation) -> None:
    """With organization.reader_role, the crawler's identity has no permission in Organizations, and needs none."""
    reader = f"arn:aws:iam::{generated.hub}:role/{READER_ROLE}"
    path = generated.settings(organization={"reader_role": reader})
    document = generated.printed(path)
    outcome = generated.crawl(path, document)
    assert (outcome.denied, outcome.gaps, outcome.error) == (set(), set(), "")
    identity = document["crawler"]["permissions_policy"]["Statement"]
    assert not any(action.startswith("organizations:") for statement in identity for action in statement["Action"])


@pytest.mark.deep  # a crawl
def test_the_trust_policy_requires_the_external_id(
    generated: Installation, undisturbed: tuple[Path, dict[str, Any], Outcome]
) -> None:
    """A role whose trust policy has another external ID is a gap; the crawler's own account is read all the same."""
    path, document, _ = undisturbed
    trust = json.loads(
        json.dumps(document["member_role"]["trust_policy"]).replace(
            generated.fake.world.parameters.external_id or "", "other"
        )
    )
    changed = {**document, "member_role": {**document["member_role"], "trust_policy": trust}}
    assert generated.crawl(path, changed).gaps == {(generated.member, "sts:AssumeRole")}


@pytest.mark.deep  # a crawl, its mart and rules
def test_the_first_hour_has_no_denied_call(tmp_path: Path) -> None:
    """The commands of a first crawl, in order: the settings are written, the policies printed, and the crawl is complete."""
    parameters = preset("tiny", seed=23, resources=0.3, external_id=None, **SMALL)
    with FakeAws(parameters) as fake:

        def run(*arguments: str) -> str:
            done = command.run(*arguments, env=fake.environment(), cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            return done.stdout

        written = run("init", "--endpoint-url", fake.url, "--iam")
        settings = tmp_path / "kmsledger.yaml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(
            text.replace("  iam: true\n", "  iam: true\n  last_use: {enabled: false}\n"), encoding="utf-8"
        )
        run("config", "check")
        (permissions,) = re.findall(r"kmsledger (permissions --principal \S+)", written)
        document = json.loads(run(*permissions.split()))
        member = document["member_role"]
        roles = {member["role_name"]: {"permissions": member["permissions_policy"], "trust": member["trust_policy"]}}
        fake.control.enforce(document["crawler"]["permissions_policy"], **roles)
        assert "run 1 complete: 2 accounts" in run("crawl")
        assert fake.control.authorized()[1] == set()


def test_no_policy_allows_an_action_that_it_denies(generated: Installation) -> None:
    """The explicit Deny that an auditor verifies takes nothing from the crawler."""
    assert not actions_of(generated.printed(generated.settings(), "--tier", "full")) & set(NEVER)
