"""The merge on SQLite and PostgreSQL: what opens, closes and keeps versions."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, exc, func, make_url, select

from models.hashing import content_hash
from models.store.engine import connect
from models.store.scd2_merge import Batch, Merged, PolicyText, merge
from models.tables import (
    Alias,
    Gap,
    Key,
    KeyGrant,
    KeyMetadata,
    KeyPolicy,
    KeyRotationEvent,
    PolicyDocument,
    Resource,
    ResourceKey,
    Tag,
)
from tests.models.store.ledger_builders import (
    ACCOUNT,
    BEGINNING,
    DESCRIBES_KEY,
    DESCRIBES_RESOURCE,
    REGION,
    WITH_KEY,
    WITH_RESOURCE,
    batch,
    database_with_everything,
    intervals,
    key,
    key_with_everything,
    known,
    merge_batch,
    metadata,
    resource,
    row,
    scope,
)

ARN = key()["key_arn"]
DATABASE = resource()["resource_arn"]


def test_the_first_run_opens_every_fact(ledger: Engine) -> None:
    """Each fact becomes a version that starts with the run."""
    assert merge_batch(ledger, 1, scope(key(1), key(2))) == Merged(opened=2)
    assert intervals(ledger, Key, "key_id") == [("1", 1, None), ("2", 1, None)]


def test_a_run_without_changes_writes_nothing(ledger: Engine) -> None:
    """Facts equal to the current version write nothing, in all fact tables."""
    facts = [*key_with_everything(), *database_with_everything()]
    merge_batch(ledger, 1, batch(*facts))
    written: list[str] = []

    @event.listens_for(ledger, "after_cursor_execute")
    def _watch(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        temporary = "stage_" in statement[:40] or "listing_" in statement[:40]
        if statement.startswith(("UPDATE", "INSERT", "DELETE")) and not temporary and cursor.rowcount > 0:
            written.append(statement)

    assert merge_batch(ledger, 2, batch(*facts, complete=((Key, ACCOUNT, REGION),))) == Merged()
    assert written == []


def test_a_kept_fact_is_neither_changed_nor_closed_nor_opened(ledger: Engine) -> None:
    """A fact that a complete listing names without its values keeps its last known ones; a new one stays unknown."""
    listing = (Resource, ACCOUNT, REGION, "AWS::RDS::DBInstance")
    merge_batch(ledger, 1, batch(*database_with_everything(1), *database_with_everything(2)))
    second = batch((Resource, resource(4)), complete=(listing,))
    for number in (1, 3):
        second.keep(Resource, resource(number)["resource_arn"])
    third = Batch()
    third.extend(second)
    assert merge_batch(ledger, 2, third) == Merged(opened=1, closed=4)
    assert intervals(ledger, Resource, "name") == [("1", 1, None), ("2", 1, 2), ("4", 2, None)]
    for model in DESCRIBES_RESOURCE:
        assert [row["resource_arn"] for row in known(ledger, model)] == [DATABASE], model


def test_a_change_closes_a_version_and_opens_the_next(ledger: Engine) -> None:
    """The old value stays valid until the run that saw the new one."""
    merge_batch(ledger, 1, batch((KeyMetadata, metadata(ARN, state="Enabled"))))
    assert merge_batch(ledger, 3, batch((KeyMetadata, metadata(ARN, state="Disabled")))) == Merged(opened=1, closed=1)
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 3), ("Disabled", 3, None)]


def test_a_value_that_returns_is_a_new_version(ledger: Engine) -> None:
    """On, off, on are three intervals."""
    for run_id, state in enumerate(("Enabled", "Disabled", "Enabled"), start=1):
        merge_batch(ledger, run_id, batch((KeyMetadata, metadata(ARN, state=state))))
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 2), ("Disabled", 2, 3), ("Enabled", 3, None)]


def test_facts_absent_from_a_complete_listing_are_closed(ledger: Engine) -> None:
    """A key missing from a complete listing of its account and region is closed; other keys stay open."""
    merge_batch(ledger, 1, scope(key(1), key(2)))
    assert merge_batch(ledger, 2, scope(key(2))) == Merged(closed=1)
    assert intervals(ledger, Key, "key_id") == [("1", 1, 2), ("2", 1, None)]


def test_an_empty_complete_listing_closes_all_its_facts(ledger: Engine) -> None:
    """The last key of a region can be deleted, too."""
    merge_batch(ledger, 1, scope(key(1), key(2)))
    assert merge_batch(ledger, 2, scope()) == Merged(closed=2)


def test_a_partial_listing_closes_nothing(ledger: Engine) -> None:
    """Facts missing from an interrupted listing keep their last known value; the listed facts are merged."""
    merge_batch(ledger, 1, scope(key(1), key(2)))
    assert merge_batch(ledger, 2, scope(key(3), complete=False)) == Merged(opened=1)
    assert [fact["key_id"] for fact in known(ledger, Key)] == ["1", "2", "3"]


def test_a_listing_covers_only_its_account_and_region(ledger: Engine) -> None:
    """A complete listing says nothing about other regions and accounts."""
    elsewhere = [key(1, ACCOUNT, "us-east-1"), key(1, "999999999999"), key(2, "999999999999", "us-east-1")]
    merge_batch(ledger, 1, scope(key(1), *elsewhere))
    assert merge_batch(ledger, 2, scope()) == Merged(closed=1)
    assert known(ledger, Key) == sorted(elsewhere, key=lambda fact: fact["key_arn"])


def test_a_listing_key_must_be_complete() -> None:
    """A listing key with a missing column raises ValueError: it would close facts of other listings."""
    with pytest.raises(ValueError, match="Key has the listing key"):
        Batch().mark_complete(Key, ACCOUNT)


def test_children_of_a_key_are_closed_with_it(ledger: Engine) -> None:
    """Grants, policies and other children of a deleted key are closed; those of other keys stay open."""
    merge_batch(ledger, 1, batch(*key_with_everything(1), *key_with_everything(2)))
    merge_batch(ledger, 2, scope(key(2)))
    for model in DESCRIBES_KEY:
        own = model.natural_key[0]
        assert [row[own] for row in known(ledger, model)] == [key(2)["key_arn"]], model
        assert sorted(intervals(ledger, model, own), key=str) == [(ARN, 1, 2), (key(2)["key_arn"], 1, None)], model


def test_children_of_a_resource_are_closed_with_it(ledger: Engine) -> None:
    """A deleted database uses no key any more."""
    listing = (Resource, ACCOUNT, REGION, "AWS::RDS::DBInstance")
    merge_batch(ledger, 1, batch(*database_with_everything(1), *database_with_everything(2)))
    assert merge_batch(ledger, 2, batch((Resource, resource(2)), complete=(listing,))) == Merged(closed=4)
    for model in DESCRIBES_RESOURCE:
        assert [row["resource_arn"] for row in known(ledger, model)] == [resource(2)["resource_arn"]], model


def test_children_stay_open_if_only_the_key_is_seen(ledger: Engine) -> None:
    """A gap in policies, grants or tags keeps their last known values."""
    merge_batch(ledger, 1, batch(*key_with_everything()))
    assert merge_batch(ledger, 2, scope(key())) == Merged()
    for model in DESCRIBES_KEY:
        assert len(known(ledger, model)) == 1


def test_a_recreated_resource_starts_a_new_history(ledger: Engine) -> None:
    """A database that was deleted and recreated with its name has two histories, and so do its children."""
    listing = (Resource, ACCOUNT, REGION, "AWS::RDS::DBInstance")
    merge_batch(ledger, 1, batch(*database_with_everything()))
    merge_batch(ledger, 2, batch(complete=(listing,)))
    merge_batch(ledger, 3, batch(*database_with_everything(), complete=(listing,)))
    for model in WITH_RESOURCE:
        assert intervals(ledger, model, "resource_arn") == [(DATABASE, 1, 2), (DATABASE, 3, None)]


def test_tags_of_accounts_stay_open(ledger: Engine) -> None:
    """Accounts have tags but are in neither parent table: a deleted key closes only its own tags."""
    account = "arn:aws:organizations::123456789012:account/o-exampleorg1/000123456789"
    merge_batch(ledger, 1, batch(*key_with_everything(), (Tag, row(Tag, resource_arn=account, tag_key="Team"))))
    merge_batch(ledger, 2, scope())
    assert [fact["resource_arn"] for fact in known(ledger, Tag)] == [account]


def test_a_listing_of_grants_covers_one_key(ledger: Engine) -> None:
    """A revoked grant is closed; grants of keys whose listing failed stay open."""
    grants = [(KeyGrant, row(KeyGrant, key_arn=key(n)["key_arn"], grant_id=g)) for n in (1, 2) for g in ("a", "b")]
    merge_batch(ledger, 1, batch(*grants))
    assert merge_batch(ledger, 2, batch(grants[0], complete=((KeyGrant, ARN),))) == Merged(closed=1)
    assert len(known(ledger, KeyGrant)) == 3


def test_the_last_of_duplicate_facts_wins(ledger: Engine) -> None:
    """A listing can return an item on two pages while it changes."""
    twice = [(KeyMetadata, metadata(ARN, state=state)) for state in ("Enabled", "Disabled")]
    assert merge_batch(ledger, 1, batch(*twice)) == Merged(opened=1)
    assert [fact["state"] for fact in known(ledger, KeyMetadata)] == ["Disabled"]


def test_error_messages_create_no_new_version(ledger: Engine) -> None:
    """A request ID in the message of a gap creates no version; another code does."""
    gap = row(
        Gap, account_id=ACCOUNT, region=REGION, service="kms", operation="ListKeys", subject="", message="request 1"
    )
    merge_batch(ledger, 1, batch((Gap, gap)))
    assert merge_batch(ledger, 2, batch((Gap, gap | {"message": "request 2"}))) == Merged()
    assert merge_batch(ledger, 3, batch((Gap, gap | {"code": "Throttling"}))) == Merged(opened=1, closed=1)


def test_policy_documents_are_stored_once(ledger: Engine) -> None:
    """Keys with the same policy share one document, and an existing document is not inserted again."""

    def observed(*numbers: int) -> Batch:
        result = Batch()
        for number in numbers:
            digest = content_hash("{}")
            result.add(KeyPolicy, key_arn=key(number)["key_arn"], policy_hash=digest)
            result.documents[digest] = PolicyText(canonical="{}", received="{ }")
        return result

    merge_batch(ledger, 1, observed(1, 2, 3))
    merge_batch(ledger, 2, observed(3, 4))
    with ledger.connect() as connection:
        assert connection.execute(select(func.count()).select_from(PolicyDocument)).scalar_one() == 1
    assert len(known(ledger, KeyPolicy)) == 4


def test_the_hash_ignores_the_order_of_object_keys() -> None:
    """The order of object keys creates no version; the order of a list does."""
    assert content_hash({"a": 1, "b": {"c": 2, "d": None}}) == content_hash({"b": {"d": None, "c": 2}, "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert content_hash(["1"]) != content_hash([1])
    assert content_hash([None, "a"]) != content_hash(["a", None])


def test_the_time_zone_of_an_instant_does_not_matter(ledger: Engine) -> None:
    """An instant in another zone creates no version and is returned in UTC."""
    tokyo = dt.timezone(dt.timedelta(hours=9))
    merge_batch(ledger, 1, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING))))
    assert (
        merge_batch(ledger, 2, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING.astimezone(tokyo))))) == Merged()
    )
    (fact,) = known(ledger, KeyMetadata)
    assert fact["created_at"] == BEGINNING
    assert fact["created_at"].utcoffset() == dt.timedelta(0)


def test_instants_are_natural_keys_to_the_microsecond(ledger: Engine) -> None:
    """Rotations are distinguished by their time, in any zone."""
    times = [BEGINNING, BEGINNING + dt.timedelta(microseconds=1), BEGINNING.replace(year=1900)]
    events = [(KeyRotationEvent, row(KeyRotationEvent, key_arn=ARN, rotated_at=time)) for time in times]
    assert merge_batch(ledger, 1, batch(*events)) == Merged(opened=3)
    again = [(model, fact | {"rotated_at": fact["rotated_at"].astimezone(dt.timezone.max)}) for model, fact in events]
    assert merge_batch(ledger, 2, batch(*again, complete=((KeyRotationEvent, ARN),))) == Merged()
    assert {fact["rotated_at"] for fact in known(ledger, KeyRotationEvent)} == set(times)


def test_the_time_zone_of_the_server_does_not_matter(postgresql_url: str) -> None:
    """Instants are unchanged by the time zone of a PostgreSQL session."""
    url = make_url(postgresql_url).update_query_dict({"options": "-c timezone=Asia/Kathmandu"})
    engine = connect(url.render_as_string(hide_password=False))
    merge_batch(engine, 1, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING))))
    assert known(engine, KeyMetadata)[0]["created_at"] == BEGINNING
    engine.dispose()


def test_a_time_without_a_zone_is_rejected(ledger: Engine) -> None:
    """A naive time is an error, and nothing of its batch is stored."""
    with pytest.raises(ValueError, match="a time without a time zone cannot be stored"):
        merge_batch(
            ledger, 1, batch((Key, key()), (KeyMetadata, metadata(ARN, created_at=BEGINNING.replace(tzinfo=None))))
        )
    assert known(ledger, Key) == []


HOSTILE_TEXTS = (
    *("", " ", "'", '"', "\\", "%", "%(run)s", ":run", "?", "\t\n\r", "\\N", "\\.", "NULL", "{}", "a" * 2000),
    *("äöü", "日本", "\U0001f511", "e\u0301", "\u202e", "\x7f\x01", "'; DROP TABLE tag; --", "<script>", "=1+1"),
)


def test_special_characters_are_ordinary_keys_and_values(ledger: Engine) -> None:
    """Tag keys with special characters are distinguished, found again and closed."""
    plain = (Tag, row(Tag, resource_arn=ARN, tag_key="Owner", tag_value="v"))
    hostile = [(Tag, row(Tag, resource_arn=ARN, tag_key=text, tag_value=text)) for text in HOSTILE_TEXTS]
    count = len(hostile)
    assert merge_batch(ledger, 1, batch(plain, *hostile)) == Merged(opened=1 + count)
    assert merge_batch(ledger, 2, batch(plain, *hostile, complete=((Tag, ARN),))) == Merged()
    tags = known(ledger, Tag)
    assert [values for _, values in hostile if values not in tags] == []
    assert merge_batch(ledger, 3, batch(plain, hostile[-1], complete=((Tag, ARN),))) == Merged(closed=count - 1)
    assert merge_batch(ledger, 4, batch(plain, complete=((Tag, ARN),))) == Merged(closed=1)


def test_letters_are_distinguished_by_case_and_form(ledger: Engine) -> None:
    """Owner and owner are two tags in AWS, whatever the collation."""
    names = ["Owner", "owner", "OWNER", "owner ", "\u00e9", "e\u0301"]
    merge_batch(ledger, 1, batch(*((Tag, row(Tag, resource_arn=ARN, tag_key=name)) for name in names)))
    assert {fact["tag_key"] for fact in known(ledger, Tag)} == set(names)


def test_characters_that_cannot_be_stored_are_replaced(ledger: Engine) -> None:
    """NUL and lone surrogates are replaced identically on both engines, and create no new versions."""
    strange = row(Tag, resource_arn="\0" + ARN, tag_key="a\0b\ud800", tag_value="\udfff")
    listing_key = (Tag, "\0" + ARN)
    assert merge_batch(ledger, 1, batch((Tag, strange), complete=(listing_key,))) == Merged(opened=1)
    assert merge_batch(ledger, 2, batch((Tag, strange), complete=(listing_key,))) == Merged()
    assert known(ledger, Tag) == [{"resource_arn": f"\ufffd{ARN}", "tag_key": "a\ufffdb\ufffd", "tag_value": "\ufffd"}]
    assert merge_batch(ledger, 3, batch(complete=(listing_key,))) == Merged(closed=1)


def test_as_of_queries_return_the_state_of_each_run(ledger: Engine) -> None:
    """As-of queries return the facts of each run, whatever happened later."""
    pictures = {1: ["1"], 2: ["1", "2"], 3: ["2"], 4: [], 5: ["1", "3"]}
    for run_id, numbers in pictures.items():
        merge_batch(ledger, run_id, scope(*(key(number) for number in numbers)))
    for run_id, numbers in {0: [], **pictures, 6: ["1", "3"]}.items():
        assert [fact["key_id"] for fact in known(ledger, Key, run_id)] == numbers


def test_a_repeated_merge_in_one_run_changes_nothing(ledger: Engine) -> None:
    """A resumed crawl can merge a scope twice in one run."""
    facts = key_with_everything()
    merge_batch(ledger, 1, batch(*facts))
    assert merge_batch(ledger, 1, batch(*facts, complete=((Key, ACCOUNT, REGION), (Tag, ARN)))) == Merged()


def test_a_second_merge_in_one_run_replaces_the_first(ledger: Engine) -> None:
    """A version opened and replaced in the same run is deleted: no version has length zero."""
    merge_batch(ledger, 1, batch((KeyMetadata, metadata(ARN, state="Enabled"))))
    merge_batch(ledger, 2, batch((KeyMetadata, metadata(ARN, state="Disabled"))))
    merge_batch(ledger, 2, batch((KeyMetadata, metadata(ARN, state="PendingDeletion"))))
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 2), ("PendingDeletion", 2, None)]


def test_a_fact_opened_and_closed_in_one_run_is_deleted(ledger: Engine) -> None:
    """A key that only the first merge of a run contains leaves no version, nor does its policy."""
    merge_batch(ledger, 1, batch(*key_with_everything()))
    merge_batch(ledger, 1, scope())
    for model in WITH_KEY:
        assert intervals(ledger, model, model.natural_key[0]) == []


def test_an_aborted_transaction_keeps_the_previous_run(ledger: Engine) -> None:
    """A scope is saved completely or not at all, and can be merged again in the same run."""
    merge_batch(ledger, 1, batch(*key_with_everything()))

    def break_off() -> None:
        with ledger.begin() as connection:
            merge(connection, 2, batch(*key_with_everything(2), complete=((Key, ACCOUNT, REGION),)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert [fact["key_id"] for fact in known(ledger, Key)] == ["1"]
    assert merge_batch(ledger, 2, scope(key(2))) == Merged(opened=1, closed=7)


def test_a_failed_statement_rolls_back_the_transaction(ledger: Engine) -> None:
    """A failed statement rolls back earlier merges of the transaction, and the next transaction works."""
    merge_batch(ledger, 1, batch(*key_with_everything()))

    def refused() -> None:
        with ledger.begin() as connection:
            merge(connection, 2, batch((Key, key(2)), complete=((Key, ACCOUNT, REGION),)))
            merge(connection, 2, batch((Key, key(3)), (Key, key(4) | {"region": None})))

    with pytest.raises(exc.IntegrityError):
        refused()
    assert [fact["key_id"] for fact in known(ledger, Key)] == ["1"]
    assert merge_batch(ledger, 2, scope(key(2))) == Merged(opened=1, closed=7)


def test_scopes_can_be_merged_together(ledger: Engine) -> None:
    """In a merge of fifty scopes, each complete listing closes only its own facts."""
    regions = [f"region-{number}" for number in range(50)]

    def observed(run_id: int) -> Batch:
        combined = Batch()
        for number, region in enumerate(regions):
            part = batch(*((Key, key(number, ACCOUNT, region)) for number in range(run_id, run_id + 3)))
            if number % 2:
                part.mark_complete(Key, ACCOUNT, region)
            part.mark_complete(Alias, ACCOUNT, region)
            combined.extend(part)
        return combined

    assert merge_batch(ledger, 1, observed(1)) == Merged(opened=150)
    assert merge_batch(ledger, 2, observed(2)) == Merged(opened=50, closed=25)


def test_merges_in_one_transaction_do_not_mix_staged_rows(ledger: Engine) -> None:
    """Rows staged by one merge are not visible to the next one in the same transaction."""
    with ledger.begin() as connection:
        for start in range(0, 6000, 2000):
            observed = batch(*((Key, key(number)) for number in range(start, start + 2000)))
            assert merge(connection, 1, observed) == Merged(opened=2000)
        assert merge(connection, 2, scope(key(1))) == Merged(closed=5999)


def test_a_table_without_a_listing_key_is_merged_completely(ledger: Engine) -> None:
    """A table without a listing key has one listing: absent facts are closed."""
    usages = [(ResourceKey, row(ResourceKey, resource_arn=f"r{number}", role="a", position=0)) for number in range(3)]
    merge_batch(ledger, 1, batch(*usages))
    assert merge_batch(ledger, 2, batch(usages[0], complete=((ResourceKey,),))) == Merged(closed=2)


def test_batches_and_counts_add_up() -> None:
    """Several batches become one, and numbers of written rows are summed."""
    first, second = scope(key(1)), scope(key(2), complete=False)
    first.extend(second)
    assert [values["key_id"] for values in first.rows[Key]] == ["1", "2"]
    assert first.complete_listings == {Key: {(ACCOUNT, REGION)}}
    assert replace(Merged(1, 2) + Merged(3, 4), opened=0) == Merged(0, 6)
