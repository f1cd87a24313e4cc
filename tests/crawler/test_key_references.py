"""Key references: parsing, resolution, and the history of key uses."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.key_references import (
    SENTINELS,
    Known,
    Reference,
    default_reference,
    open_references,
    parse_reference,
    resolve,
)
from crawler.spec import Scope
from models.store.scd2_merge import Batch
from models.tables.keys import Alias, Key, KeyMetadata
from models.tables.resources import Form, KeyClass, KeyReference, Resource, ResourceKey
from models.tables.runs import Gap, Outcome
from tests.crawler.empty_ledger import Ledger, Outcomes

HOME, OTHER = "111122223333", "444455556666"
IRELAND, VIRGINIA = "eu-west-1", "us-east-1"
SCOPE = Scope(HOME, IRELAND)
ONE, TWO = "1234abcd-12ab-34cd-56ef-1234567890ab", "0987dcba-09fe-87dc-65ba-ab0987654321"
MRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
SECRET = f"arn:aws:secretsmanager:{IRELAND}:{HOME}:secret:orders-x1y2z3"
LONG_AGO = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def arn(resource: str, account: str = HOME, region: str = IRELAND) -> str:
    """Return the ARN of a key or an alias."""
    return f"arn:aws:kms:{region}:{account}:{resource}"


READ: list[tuple[Any, Form, str | None]] = [
    (arn(f"key/{ONE}"), Form.KEY_ARN, arn(f"key/{ONE}")),
    (arn(f"key/{ONE}", OTHER, VIRGINIA), Form.KEY_ARN, arn(f"key/{ONE}", OTHER, VIRGINIA)),
    (f"arn:aws-us-gov:kms:us-gov-west-1:{HOME}:key/{ONE}", Form.KEY_ARN, f"arn:aws-us-gov:kms:us-gov-west-1:{HOME}:key/{ONE}"),
    (arn("alias/orders", OTHER), Form.ALIAS_ARN, arn("alias/orders", OTHER)),
    ("alias/team/orders", Form.ALIAS_NAME, arn("alias/team/orders")),
    ("alias/aws/rds", Form.ALIAS_NAME, arn("alias/aws/rds")),
    (ONE, Form.KEY_ID, arn(f"key/{ONE}")),
    (MRK, Form.KEY_ID, arn(f"key/{MRK}")),
    ("AWS_OWNED_KMS_KEY", Form.SENTINEL, None),
    ("alias/", Form.MALFORMED, None),
    ("arn:aws:kms:eu-west-1::key/" + ONE, Form.MALFORMED, None),
    ("arn:aws:kms:eu-west-1:١٢٣٤٥٦٧٨٩٠١٢:key/" + ONE, Form.MALFORMED, None),
    (f"arn:aws:iam::{HOME}:role/x", Form.MALFORMED, None),
    (arn(f"key/{ONE}") + "\n", Form.MALFORMED, None),
    ("", Form.MALFORMED, None),
    (7, Form.MALFORMED, None),
    ({"KeyId": ONE}, Form.MALFORMED, None),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "form", "target"), READ)
def test_every_format_is_parsed(raw: Any, form: Form, target: str | None) -> None:
    """Ids, ARNs, aliases and sentinels are distinguished; a bare id or alias belongs to the resource's account and region."""
    reference = parse_reference(raw, SCOPE)
    assert (reference.form, reference.target_arn, reference.raw) == (
        form,
        target,
        raw if isinstance(raw, str) else str(raw),
    )
    if target:
        assert reference.target_account == target.split(":")[4]
        assert reference.target_region == target.split(":")[3]
    else:
        assert reference.declared_class in {KeyClass.UNKNOWN, KeyClass.AWS_OWNED}
        assert reference.reason


def test_every_sentinel_is_recognized() -> None:
    """A sentinel is never parsed as a key id."""
    for word, key_class in SENTINELS.items():
        assert (parse_reference(word, SCOPE).form, parse_reference(word, SCOPE).declared_class) == (
            Form.SENTINEL,
            key_class,
        )


def test_an_omitted_key_resolves_to_the_default() -> None:
    """The default is no key, a class, or the service's alias in the account and region of the resource."""
    assert default_reference(None, SCOPE) is None
    assert default_reference(KeyClass.NONE, SCOPE) == Reference(Form.OMITTED, declared_class=KeyClass.NONE)
    reference = default_reference("alias/aws/rds", SCOPE)
    assert reference is not None
    assert (reference.form, reference.raw, reference.target_arn) == (Form.OMITTED, None, arn("alias/aws/rds"))


scopes = st.builds(
    Scope, st.from_regex(r"[0-9]{12}", fullmatch=True), st.sampled_from([IRELAND, "us-gov-west-1", "ap-southeast-5"]),
    st.sampled_from(["aws", "aws-cn", "aws-us-gov", "aws-eusc"]),
)  # fmt: skip
key_ids = st.uuids().map(str) | st.uuids().map(lambda value: f"mrk-{value.hex}")
aliases = st.from_regex(r"alias/[a-zA-Z0-9/_-]{1,240}", fullmatch=True)


@given(scopes, key_ids | aliases)
def test_a_name_and_its_arn_are_equivalent(scope: Scope, name: str) -> None:
    """A name and its ARN parse to the same target; parsing the target again changes nothing."""
    bare = parse_reference(name, scope)
    assert bare.form in {Form.KEY_ID, Form.ALIAS_NAME}
    elsewhere = Scope("000000000000", "us-west-2")
    full = parse_reference(bare.target_arn, elsewhere)
    assert full.form in {Form.KEY_ARN, Form.ALIAS_ARN}
    assert (full.target_arn, full.target_account, full.target_region) == (
        bare.target_arn,
        scope.account_id,
        scope.region,
    )


@given(
    st.text()
    | st.text().map(lambda text: f"alias/{text}")
    | st.text().map(lambda text: arn(f"key/{text}"))
    | st.integers()
)
def test_any_value_can_be_parsed(raw: Any) -> None:
    """Any value is kept as received, and has either a target or a declared class."""
    reference = parse_reference(raw, SCOPE)
    assert reference.raw == str(raw)
    assert bool(reference.target_arn) != bool(reference.declared_class)


def resolved(reference: Reference, **facts: Any) -> tuple[str | None, KeyClass, str | None]:
    """Resolve a reference; by default its target does not exist in a completely crawled scope."""
    known: dict[str, Any] = dict.fromkeys(
        ("known_alias", "alias_target", "known_key", "known_manager", "has_aws_alias")
    )
    row = dataclasses.asdict(reference) | known | {name: value for name, value in facts.items() if name in known}
    outcome = facts.get("outcome", "complete")
    scope = (HOME, IRELAND)
    gaps = {(*scope, operation) for operation in facts.get("gaps", ())}
    return resolve(row, Known({scope: outcome} if outcome else {}, frozenset(gaps)))


@pytest.mark.parametrize(
    "reference",
    [
        parse_reference("AWS_OWNED_KMS_KEY", SCOPE),
        parse_reference(7, SCOPE),
        Reference(Form.OMITTED, declared_class=KeyClass.NONE),
    ],
)
def test_a_declared_class_needs_no_key(reference: Reference) -> None:
    """Sentinels, malformed values and services without encryption have a class whatever the ledger lists."""
    assert resolved(reference, known_key=arn(f"key/{ONE}"), known_manager="CUSTOMER") == (
        None,
        reference.declared_class,
        reference.reason,
    )


KEY, ALIAS, AWS_ALIAS = arn(f"key/{ONE}"), arn("alias/orders"), arn("alias/aws/rds")
FOUND = {"known_key": KEY}
POINTS = {"known_alias": ALIAS, "alias_target": KEY}
RESOLVED: list[tuple[str, str, dict[str, Any], str | None, KeyClass]] = [
    ("a customer key", KEY, {**FOUND, "known_manager": "CUSTOMER"}, KEY, KeyClass.CUSTOMER),
    ("an AWS managed key", KEY, {**FOUND, "known_manager": "AWS"}, KEY, KeyClass.AWS_MANAGED),
    ("an undescribed key under an AWS alias", KEY, {**FOUND, "has_aws_alias": True}, KEY, KeyClass.AWS_MANAGED),
    ("an undescribed key", KEY, FOUND, KEY, KeyClass.UNKNOWN),
    ("a key of an earlier run", KEY, {**FOUND, "known_manager": "CUSTOMER", "outcome": None}, KEY, KeyClass.CUSTOMER),
    ("through an alias", ALIAS, {**POINTS, **FOUND, "known_manager": "CUSTOMER"}, KEY, KeyClass.CUSTOMER),
    ("missing from a complete listing", KEY, {}, KEY, KeyClass.DANGLING),
    ("missing, with unrelated gaps", KEY, {"outcome": "partial"}, KEY, KeyClass.DANGLING),
    ("keys not listed", KEY, {"outcome": "partial", "gaps": ["ListKeys"]}, KEY, KeyClass.UNKNOWN),
    ("scope failed", KEY, {"outcome": "failed"}, KEY, KeyClass.NOT_CRAWLED),
    ("scope not crawled", KEY, {"outcome": None}, KEY, KeyClass.NOT_CRAWLED),
    ("scope excluded", KEY, {"outcome": "excluded"}, KEY, KeyClass.NOT_CRAWLED),
    ("no such alias", ALIAS, {}, None, KeyClass.DANGLING),
    ("aliases not listed", ALIAS, {"outcome": "partial", "gaps": ["ListAliases"]}, None, KeyClass.UNKNOWN),
    ("alias of a scope not crawled", ALIAS, {"outcome": None}, None, KeyClass.NOT_CRAWLED),
    ("an alias of a deleted key", ALIAS, POINTS, KEY, KeyClass.DANGLING),
    ("an alias whose key may be there", ALIAS, {**POINTS, "gaps": ["ListKeys"]}, KEY, KeyClass.UNKNOWN),
    ("an alias that may point elsewhere by now", ALIAS, {**POINTS, "gaps": ["ListAliases"]}, KEY, KeyClass.UNKNOWN),
    ("an AWS alias that does not exist yet", AWS_ALIAS, {}, None, KeyClass.AWS_MANAGED),
    ("an AWS alias in a scope not crawled", AWS_ALIAS, {"outcome": None}, None, KeyClass.AWS_MANAGED),
    ("an AWS alias, key not listed", AWS_ALIAS, {"known_alias": AWS_ALIAS, "alias_target": KEY}, KEY, KeyClass.AWS_MANAGED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "facts", "key", "expected"), [row[1:] for row in RESOLVED], ids=[row[0] for row in RESOLVED]
)
def test_every_reference_gets_its_class(
    target: str, facts: dict[str, Any], key: str | None, expected: KeyClass
) -> None:
    """A key is dangling only if a complete listing does not show it; every unclear class has a reason."""
    key_arn, key_class, reason = resolved(parse_reference(target, SCOPE), **facts)
    assert (key_arn, key_class) == (key, expected)
    if expected in {KeyClass.DANGLING, KeyClass.NOT_CRAWLED, KeyClass.UNKNOWN}:
        assert reason


@given(
    st.sampled_from([KEY, ALIAS, AWS_ALIAS]), st.sampled_from([None, KEY]),
    st.sampled_from(["complete", "partial", "failed", None]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_dangling_requires_complete_listings(
    target: str, points_to: str | None, outcome: str | None, keys_gap: bool, aliases_gap: bool
) -> None:
    """A dangling key requires a crawled scope and complete listings of keys and aliases."""
    gaps = [name for name, failed in (("ListKeys", keys_gap), ("ListAliases", aliases_gap)) if failed]
    _, key_class, _ = resolved(
        parse_reference(target, SCOPE),
        known_alias=target if points_to and "alias" in target else None,
        alias_target=points_to if "alias" in target else None,
        outcome=outcome,
        gaps=gaps,
    )
    if key_class is KeyClass.DANGLING:
        assert outcome in {"complete", "partial"}
        assert target != AWS_ALIAS
        assert not (target == ALIAS and aliases_gap)
        assert not (keys_gap and (target == KEY or points_to))


class RunBuilder:
    """Builds the facts of one run."""

    def __init__(self, *scopes: tuple[str, str]) -> None:
        self.batch = Batch()
        self.outcomes: dict[tuple[str, str], Outcome] = dict.fromkeys(scopes or [(HOME, IRELAND)], Outcome.COMPLETE)
        for scope in self.outcomes:
            for model in (Key, Alias, Gap):
                self.batch.mark_complete(model, *scope)

    def key(
        self, key_id: str, account: str = HOME, region: str = IRELAND, manager: str | None = "CUSTOMER"
    ) -> RunBuilder:
        """Add a key, with metadata unless it has no manager."""
        key_arn = arn(f"key/{key_id}", account, region)
        self.batch.add(Key, key_arn=key_arn, key_id=key_id, account_id=account, region=region)
        if manager:
            nothing: dict[str, Any] = dict.fromkeys(KeyMetadata.value_columns())
            self.batch.add(KeyMetadata, **{**nothing, "key_arn": key_arn, "manager": manager})
        return self

    def alias(self, name: str, key_id: str | None) -> RunBuilder:
        """Add an alias of the home account in Ireland."""
        target = arn(f"key/{key_id}") if key_id else None
        self.batch.add(
            Alias, alias_arn=arn(name), alias_name=name, account_id=HOME, region=IRELAND, target_key_id=key_id,
            target_key_arn=target, created_at=LONG_AGO, updated_at=None,
        )  # fmt: skip
        return self

    def secret(self, *names: str | None, resource: str = SECRET, region: str = IRELAND) -> RunBuilder:
        """Add a secret with its keys; ``None`` is the AWS managed key."""
        kind = "AWS::SecretsManager::Secret"
        self.batch.add(
            Resource, resource_arn=resource, resource_type=kind, account_id=HOME, region=region, listing_region=region,
            name="orders", status=None, encryption=None, created_at=LONG_AGO, deletion_at=None, details=None,
        )  # fmt: skip
        for position, name in enumerate(names):
            scope = Scope(HOME, region)
            reference = parse_reference(name, scope) if name else default_reference("alias/aws/secretsmanager", scope)
            assert reference is not None
            self.batch.add(
                KeyReference, resource_arn=resource, role="secret", position=position, format=str(reference.form),
                encryption=None, raw_value=reference.raw, target_arn=reference.target_arn,
                target_account=reference.target_account, target_region=reference.target_region,
                declared_class=reference.declared_class, reason=reference.reason,
            )  # fmt: skip
        self.batch.mark_complete(KeyReference, resource)
        self.batch.mark_complete(Resource, HOME, region, kind)
        return self

    def gap(self, operation: str) -> RunBuilder:
        """Add a gap of a failed listing of the home account in Ireland."""
        self.batch.complete_listings[Key if operation == "ListKeys" else Alias].discard((HOME, IRELAND))
        self.batch.add(
            Gap, account_id=HOME, region=IRELAND, service="kms", operation=operation, subject="", action=f"kms:{operation}",
            cause="denied", code="AccessDeniedException", message="",
        )  # fmt: skip
        self.outcomes[HOME, IRELAND] = Outcome.PARTIAL
        return self

    def save(self, ledger: Ledger, outcomes: Outcomes | None = None) -> int:
        """Save the run and resolve its references."""
        return ledger.record_run(self.batch, self.outcomes if outcomes is None else outcomes)


def uses(ledger: Ledger, resource: str = SECRET) -> list[tuple[int, int | None, str | None, str]]:
    """Return the key uses of a resource: from run, to run, key id, class."""
    return [
        (row["valid_from"], row["valid_to"], (row["key_arn"] or "").rpartition("/")[2] or None, row["key_class"])
        for row in ledger.rows(ResourceKey, resource_arn=resource)
    ]


def test_a_moved_alias_starts_a_new_use(ledger: Ledger) -> None:
    """The resource is unchanged, its alias moves: the old use closes and the new one opens in the same run."""
    for target in (ONE, ONE, TWO):
        RunBuilder().key(ONE).key(TWO).alias("alias/orders", target).secret("alias/orders").save(ledger)
    assert uses(ledger) == [(1, 3, ONE, "customer"), (3, None, TWO, "customer")]
    assert len(ledger.rows(KeyReference)) == 1


def test_a_use_ends_with_its_reference(ledger: Ledger) -> None:
    """The use of a key that a resource no longer names closes; the other use stays open."""
    RunBuilder().key(ONE).key(TWO).secret(ONE, TWO).save(ledger)
    RunBuilder().key(ONE).key(TWO).secret(ONE).save(ledger)
    assert uses(ledger) == [(1, None, ONE, "customer"), (1, 2, TWO, "customer")]


def test_a_use_ends_with_its_resource(ledger: Ledger) -> None:
    """A deleted resource has no open key uses."""
    RunBuilder().key(ONE).secret(ONE).save(ledger)
    without_secret = RunBuilder().key(ONE)
    without_secret.batch.mark_complete(Resource, HOME, IRELAND, "AWS::SecretsManager::Secret")
    without_secret.save(ledger)
    assert uses(ledger) == [(1, 2, ONE, "customer")]
    assert ledger.current(KeyReference) == []


def test_a_replica_key_is_distinct_from_its_primary(ledger: Ledger) -> None:
    """With one key id in two regions, each secret uses the key of its own region."""
    replica = SECRET.replace(IRELAND, VIRGINIA)
    run = RunBuilder((HOME, IRELAND), (HOME, VIRGINIA)).key(MRK).key(MRK, region=VIRGINIA)
    run.secret(MRK).secret(MRK, resource=replica, region=VIRGINIA).save(ledger)
    keys = {row["resource_arn"]: row["key_arn"] for row in ledger.current(ResourceKey)}
    assert keys == {SECRET: arn(f"key/{MRK}"), replica: arn(f"key/{MRK}", region=VIRGINIA)}


def test_a_foreign_key_resolves_once_its_account_is_crawled(ledger: Ledger) -> None:
    """The class is not_crawled until the other account is crawled, and dangling once the key is deleted there."""
    foreign = arn(f"key/{ONE}", OTHER)
    RunBuilder().secret(foreign).save(ledger)
    RunBuilder((HOME, IRELAND), (OTHER, IRELAND)).key(ONE, OTHER).secret(foreign).save(ledger)
    RunBuilder((HOME, IRELAND), (OTHER, IRELAND)).secret(foreign).save(ledger)
    assert [(begin, kind) for begin, _, _, kind in uses(ledger)] == [
        (1, "not_crawled"),
        (2, "customer"),
        (3, "dangling"),
    ]


def test_a_bare_id_of_a_key_in_another_account_is_unknown(ledger: Ledger) -> None:
    """A key ID alone names no account: if the key exists elsewhere, it is not a deleted key, and the reason says where it is."""
    scopes = ((HOME, IRELAND), (OTHER, VIRGINIA))
    RunBuilder(*scopes).key(ONE, OTHER, VIRGINIA).secret(ONE, TWO).save(ledger)
    rows = {row["position"]: (row["key_arn"], row["key_class"], row["reason"]) for row in ledger.current(ResourceKey)}
    assert rows[0][:2] == (None, "unknown")
    assert rows[0][2].endswith(f"a key with this ID exists in account {OTHER}, region {VIRGINIA}")
    assert rows[1][1] == "dangling"


def test_a_failed_account_keeps_the_class_of_its_keys(ledger: Ledger) -> None:
    """The class of a known key does not change while its account cannot be read."""
    foreign = arn(f"key/{ONE}", OTHER)
    RunBuilder((HOME, IRELAND), (OTHER, IRELAND)).key(ONE, OTHER).secret(foreign).save(ledger)
    RunBuilder().secret(foreign).save(ledger)
    assert uses(ledger) == [(1, None, ONE, "customer")]


def test_an_aws_alias_is_never_dangling(ledger: Ledger) -> None:
    """AWS creates the key of alias/aws/... on first use: before, the class is aws_managed without a key."""
    RunBuilder().secret(None).save(ledger)
    RunBuilder().alias("alias/aws/secretsmanager", None).secret(None).save(ledger)
    RunBuilder().alias("alias/aws/secretsmanager", ONE).key(ONE, manager=None).secret(None).save(ledger)
    assert uses(ledger) == [(1, 3, None, "aws_managed"), (3, None, ONE, "aws_managed")]


def test_a_failed_listing_makes_no_key_dangling(ledger: Ledger) -> None:
    """If ListKeys or ListAliases is denied, known keys keep their class and the others are unknown until the next listing."""
    RunBuilder().key(ONE).secret(ONE, TWO, "alias/orders").save(ledger)
    RunBuilder().gap("ListKeys").gap("ListAliases").secret(ONE, TWO, "alias/orders").save(ledger)
    RunBuilder().key(ONE).secret(ONE, TWO, "alias/orders").save(ledger)
    by_run: dict[int, list[str]] = {}
    for run in (1, 2, 3):
        current = [row for row in uses(ledger) if row[0] <= run and (row[1] is None or row[1] > run)]
        by_run[run] = sorted(kind for _, _, _, kind in current)
    assert by_run == {
        1: ["customer", "dangling", "dangling"],
        2: ["customer", "unknown", "unknown"],
        3: ["customer", "dangling", "dangling"],
    }


def test_a_run_without_changes_writes_nothing(ledger: Ledger) -> None:
    """Unchanged references and keys add no version, however many there are."""
    for _ in range(2):
        run = RunBuilder().key(ONE).alias("alias/orders", ONE)
        for number in range(50):
            resource = f"{SECRET}-{uuid.UUID(int=number)}"
            run.secret("alias/orders", None, resource=resource)
        run.save(ledger)
    assert {row["valid_from"] for row in ledger.rows(ResourceKey)} == {1}
    assert len(ledger.rows(ResourceKey)) == 100


def test_the_cost_of_a_reference_is_independent_of_the_other_aliases(tmp_path: Path) -> None:
    """An account-region of ten times the keys and aliases costs ten times as much, not a hundred times."""
    instructions = {}
    for keys in (100, 1000):
        ledger = Ledger(tmp_path / f"{keys}.db")
        run = RunBuilder()
        for number in range(keys):
            key_id = str(uuid.UUID(int=number))
            run.key(key_id).alias(f"alias/{number}", key_id).secret(key_id, resource=f"{SECRET}-{number}")
        run.save(ledger)
        ticks: list[None] = []
        with ledger.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.set_progress_handler(lambda ticks=ticks: ticks.append(None), 100)
            assert len(open_references(connection).all()) == keys
            driver.set_progress_handler(None, 0)
        instructions[keys] = len(ticks)
        ledger.close()
    assert 0 < instructions[1000] < 15 * instructions[100]
