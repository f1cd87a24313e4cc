"""The merge, on SQLite and PostgreSQL: what opens, changes and ends a version, and what leaves it alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, exc, func, make_url, select

from models.hashing import content_hash
from models.store.engine import connect
from models.store.scd2_merge import Batch, Merged, merge
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
    metadata,
    night,
    resource,
    row,
    scope,
)

ARN = key()["key_arn"]
DATABASE = resource()["resource_arn"]


def test_a_first_night_opens_everything(ledger: Engine) -> None:
    """Each fact becomes a version that began with the run."""
    assert night(ledger, 1, scope(key(1), key(2))) == Merged(opened=2)
    assert intervals(ledger, Key, "key_id") == [("1", 1, None), ("2", 1, None)]


def test_a_night_without_changes_writes_nothing(ledger: Engine) -> None:
    """Facts equal to the last known version leave the tables as they are, in all fact tables."""
    facts = [*key_with_everything(), *database_with_everything()]
    night(ledger, 1, batch(*facts))
    written: list[str] = []

    @event.listens_for(ledger, "after_cursor_execute")
    def _watch(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        temporary = "stage_" in statement[:30] or "listing_" in statement[:30]
        if statement.startswith(("UPDATE", "INSERT", "DELETE")) and not temporary and cursor.rowcount > 0:
            written.append(statement)

    assert night(ledger, 2, batch(*facts, complete=((Key, ACCOUNT, REGION),))) == Merged()
    assert written == []


def test_a_change_ends_one_version_and_begins_the_next(ledger: Engine) -> None:
    """The old value stays on record until the run that saw the new one."""
    night(ledger, 1, batch((KeyMetadata, metadata(ARN, state="Enabled"))))
    assert night(ledger, 3, batch((KeyMetadata, metadata(ARN, state="Disabled")))) == Merged(opened=1, closed=1)
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 3), ("Disabled", 3, None)]


def test_a_value_that_comes_back_is_a_version_of_its_own(ledger: Engine) -> None:
    """On, off, on are three intervals: the history does not forget the middle one."""
    for run_id, state in enumerate(("Enabled", "Disabled", "Enabled"), start=1):
        night(ledger, run_id, batch((KeyMetadata, metadata(ARN, state=state))))
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 2), ("Disabled", 2, 3), ("Enabled", 3, None)]


def test_what_a_complete_listing_no_longer_shows_is_gone(ledger: Engine) -> None:
    """A key that is missing from a whole listing of its account and region has ended; its neighbours have not."""
    night(ledger, 1, scope(key(1), key(2)))
    assert night(ledger, 2, scope(key(2))) == Merged(closed=1)
    assert intervals(ledger, Key, "key_id") == [("1", 1, 2), ("2", 1, None)]


def test_an_empty_complete_listing_ends_everything_it_covers(ledger: Engine) -> None:
    """The last key of a region can go, too."""
    night(ledger, 1, scope(key(1), key(2)))
    assert night(ledger, 2, scope()) == Merged(closed=2)


def test_a_partial_listing_ends_nothing(ledger: Engine) -> None:
    """What a listing that broke off does not show keeps its last known value; what it shows is new."""
    night(ledger, 1, scope(key(1), key(2)))
    assert night(ledger, 2, scope(key(3), complete=False)) == Merged(opened=1)
    assert [one["key_id"] for one in known(ledger, Key)] == ["1", "2", "3"]


def test_a_listing_covers_its_own_account_and_region_only(ledger: Engine) -> None:
    """A complete listing says nothing of the same account elsewhere, nor of other accounts."""
    elsewhere = [key(1, ACCOUNT, "us-east-1"), key(1, "999999999999"), key(2, "999999999999", "us-east-1")]
    night(ledger, 1, scope(key(1), *elsewhere))
    assert night(ledger, 2, scope()) == Merged(closed=1)
    assert known(ledger, Key) == sorted(elsewhere, key=lambda one: one["key_arn"])


def test_a_cover_must_name_the_listing_whole() -> None:
    """A cover with a column too few would end facts of listings that nobody made."""
    with pytest.raises(ValueError, match="Key has the listing key"):
        Batch().mark_complete(Key, ACCOUNT)


def test_what_describes_a_key_ends_with_it(ledger: Engine) -> None:
    """Grants, policies and all else of a deleted key are closed with the key; those of other keys stay open."""
    night(ledger, 1, batch(*key_with_everything(1), *key_with_everything(2)))
    night(ledger, 2, scope(key(2)))
    for model in DESCRIBES_KEY:
        own = model.natural_key[0]
        assert [row[own] for row in known(ledger, model)] == [key(2)["key_arn"]], model
        assert sorted(intervals(ledger, model, own), key=str) == [(ARN, 1, 2), (key(2)["key_arn"], 1, None)], model


def test_what_describes_a_resource_ends_with_it(ledger: Engine) -> None:
    """A deleted database uses no key any more."""
    listing = (Resource, ACCOUNT, REGION, "AWS::RDS::DBInstance")
    night(ledger, 1, batch(*database_with_everything(1), *database_with_everything(2)))
    assert night(ledger, 2, batch((Resource, resource(2)), complete=(listing,))) == Merged(closed=4)
    for model in DESCRIBES_RESOURCE:
        assert [row["resource_arn"] for row in known(ledger, model)] == [resource(2)["resource_arn"]], model


def test_what_describes_a_key_stays_when_only_the_key_is_seen(ledger: Engine) -> None:
    """A gap in policies, grants or tags leaves their last known values alone."""
    night(ledger, 1, batch(*key_with_everything()))
    assert night(ledger, 2, scope(key())) == Merged()
    for model in DESCRIBES_KEY:
        assert len(known(ledger, model)) == 1


def test_what_is_made_again_begins_again(ledger: Engine) -> None:
    """A database that was deleted and made again under its name has two lives, and so has what describes it."""
    listing = (Resource, ACCOUNT, REGION, "AWS::RDS::DBInstance")
    night(ledger, 1, batch(*database_with_everything()))
    night(ledger, 2, batch(complete=(listing,)))
    night(ledger, 3, batch(*database_with_everything(), complete=(listing,)))
    for model in WITH_RESOURCE:
        assert intervals(ledger, model, "resource_arn") == [(DATABASE, 1, 2), (DATABASE, 3, None)]


def test_tags_of_what_is_neither_key_nor_resource_stay(ledger: Engine) -> None:
    """Accounts have tags without being in either table: a key that goes takes only its own."""
    account = "arn:aws:organizations::123456789012:account/o-exampleorg1/000123456789"
    night(ledger, 1, batch(*key_with_everything(), (Tag, row(Tag, resource_arn=account, tag_key="Team"))))
    night(ledger, 2, scope())
    assert [one["resource_arn"] for one in known(ledger, Tag)] == [account]


def test_a_listing_of_grants_covers_one_key(ledger: Engine) -> None:
    """A revoked grant ends, grants of keys whose listing failed stay."""
    grants = [(KeyGrant, row(KeyGrant, key_arn=key(n)["key_arn"], grant_id=g)) for n in (1, 2) for g in ("a", "b")]
    night(ledger, 1, batch(*grants))
    assert night(ledger, 2, batch(grants[0], complete=((KeyGrant, ARN),))) == Merged(closed=1)
    assert len(known(ledger, KeyGrant)) == 3


def test_of_facts_given_twice_the_last_one_counts(ledger: Engine) -> None:
    """A listing that shows an item on two pages, while it changes, is no error."""
    twice = [(KeyMetadata, metadata(ARN, state=state)) for state in ("Enabled", "Disabled")]
    assert night(ledger, 1, batch(*twice)) == Merged(opened=1)
    assert [one["state"] for one in known(ledger, KeyMetadata)] == ["Disabled"]


def test_free_text_of_errors_makes_no_new_version(ledger: Engine) -> None:
    """A gap is as old as its cause: request ids in the message do not make it young again, another code does."""
    gap = row(
        Gap, account_id=ACCOUNT, region=REGION, service="kms", operation="ListKeys", subject="", message="request 1"
    )
    night(ledger, 1, batch((Gap, gap)))
    assert night(ledger, 2, batch((Gap, gap | {"message": "request 2"}))) == Merged()
    assert night(ledger, 3, batch((Gap, gap | {"code": "Throttling"}))) == Merged(opened=1, closed=1)


def test_policy_documents_are_stored_once(ledger: Engine) -> None:
    """A thousand keys with the default policy carry one text; a text that is there already is not asked to come again."""

    def learned(*numbers: int) -> Batch:
        result = Batch()
        for number in numbers:
            digest = content_hash("{}")
            result.add(KeyPolicy, key_arn=key(number)["key_arn"], policy_hash=digest)
            result.documents[digest] = PolicyDocument(policy_hash=digest, canonical="{}", received="{ }")
        return result

    night(ledger, 1, learned(1, 2, 3))
    night(ledger, 2, learned(3, 4))
    with ledger.connect() as connection:
        assert connection.execute(select(func.count()).select_from(PolicyDocument)).scalar_one() == 1
    assert len(known(ledger, KeyPolicy)) == 4


def test_the_hash_knows_values_not_their_order() -> None:
    """The order in which AWS returns object members makes no new version; the order of a list does."""
    assert content_hash({"a": 1, "b": {"c": 2, "d": None}}) == content_hash({"b": {"d": None, "c": 2}, "a": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert content_hash(["1"]) != content_hash([1])
    assert content_hash([None, "a"]) != content_hash(["a", None])


def test_one_instant_is_one_value_whatever_its_zone(ledger: Engine) -> None:
    """Times of another zone are the same instants: no new version, and they come back in UTC."""
    tokyo = dt.timezone(dt.timedelta(hours=9))
    night(ledger, 1, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING))))
    assert night(ledger, 2, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING.astimezone(tokyo))))) == Merged()
    (one,) = known(ledger, KeyMetadata)
    assert one["created_at"] == BEGINNING
    assert one["created_at"].utcoffset() == dt.timedelta(0)


def test_instants_are_natural_keys_to_the_microsecond(ledger: Engine) -> None:
    """Rotations are told apart by their time, in whatever zone it is given."""
    times = [BEGINNING, BEGINNING + dt.timedelta(microseconds=1), BEGINNING.replace(year=1900)]
    events = [(KeyRotationEvent, row(KeyRotationEvent, key_arn=ARN, rotated_at=time)) for time in times]
    assert night(ledger, 1, batch(*events)) == Merged(opened=3)
    again = [(model, one | {"rotated_at": one["rotated_at"].astimezone(dt.timezone.max)}) for model, one in events]
    assert night(ledger, 2, batch(*again, complete=((KeyRotationEvent, ARN),))) == Merged()
    assert {one["rotated_at"] for one in known(ledger, KeyRotationEvent)} == set(times)


def test_the_zone_of_the_server_does_not_matter(postgresql_url: str) -> None:
    """PostgreSQL sessions have a time zone of their own; instants pass through unharmed."""
    url = make_url(postgresql_url).update_query_dict({"options": "-c timezone=Asia/Kathmandu"})
    engine = connect(url.render_as_string(hide_password=False))
    night(engine, 1, batch((KeyMetadata, metadata(ARN, created_at=BEGINNING))))
    assert known(engine, KeyMetadata)[0]["created_at"] == BEGINNING
    engine.dispose()


def test_a_time_without_a_zone_is_refused(ledger: Engine) -> None:
    """A naive time is a guess, and nothing of its batch is stored."""
    with pytest.raises(ValueError, match="a time without a time zone cannot be stored"):
        night(ledger, 1, batch((Key, key()), (KeyMetadata, metadata(ARN, created_at=BEGINNING.replace(tzinfo=None)))))
    assert known(ledger, Key) == []


HOSTILE_TEXTS = (
    *("", " ", "'", '"', "\\", "%", "%(run)s", ":run", "?", "\t\n\r", "\\N", "\\.", "NULL", "{}", "a" * 2000),
    *("äöü", "日本", "\U0001f511", "e\u0301", "\u202e", "\x7f\x01", "'; DROP TABLE tag; --", "<script>", "=1+1"),
)


def test_odd_characters_are_keys_and_values_like_any_others(ledger: Engine) -> None:
    """Names of tags are hostile text: each is told apart from the others, found again and closed like any other."""
    plain = (Tag, row(Tag, resource_arn=ARN, tag_key="Owner", tag_value="v"))
    hostile = [(Tag, row(Tag, resource_arn=ARN, tag_key=text, tag_value=text)) for text in HOSTILE_TEXTS]
    count = len(hostile)
    assert night(ledger, 1, batch(plain, *hostile)) == Merged(opened=1 + count)
    assert night(ledger, 2, batch(plain, *hostile, complete=((Tag, ARN),))) == Merged()
    tags = known(ledger, Tag)
    assert [values for _, values in hostile if values not in tags] == []
    assert night(ledger, 3, batch(plain, hostile[-1], complete=((Tag, ARN),))) == Merged(closed=count - 1)
    assert night(ledger, 4, batch(plain, complete=((Tag, ARN),))) == Merged(closed=1)


def test_letters_are_told_apart_by_case_and_form(ledger: Engine) -> None:
    """AWS has Owner and owner as two tags; no collation may make them one."""
    names = ["Owner", "owner", "OWNER", "owner ", "\u00e9", "e\u0301"]
    night(ledger, 1, batch(*((Tag, row(Tag, resource_arn=ARN, tag_key=name)) for name in names)))
    assert {one["tag_key"] for one in known(ledger, Tag)} == set(names)


def test_characters_that_no_engine_stores_stop_nothing(ledger: Engine) -> None:
    """NUL and halves of surrogate pairs are replaced, the same on both engines, and are stable from night to night."""
    strange = row(Tag, resource_arn="\0" + ARN, tag_key="a\0b\ud800", tag_value="\udfff")
    listing_key = (Tag, "\0" + ARN)
    assert night(ledger, 1, batch((Tag, strange), complete=(listing_key,))) == Merged(opened=1)
    assert night(ledger, 2, batch((Tag, strange), complete=(listing_key,))) == Merged()
    assert known(ledger, Tag) == [{"resource_arn": f"\ufffd{ARN}", "tag_key": "a\ufffdb\ufffd", "tag_value": "\ufffd"}]
    assert night(ledger, 3, batch(complete=(listing_key,))) == Merged(closed=1)


def test_every_run_can_be_asked_for_what_was_known_then(ledger: Engine) -> None:
    """As-of queries give each run's picture, whatever came later."""
    pictures = {1: ["1"], 2: ["1", "2"], 3: ["2"], 4: [], 5: ["1", "3"]}
    for run_id, numbers in pictures.items():
        night(ledger, run_id, scope(*(key(number) for number in numbers)))
    for run_id, numbers in {0: [], **pictures, 6: ["1", "3"]}.items():
        assert [one["key_id"] for one in known(ledger, Key, run_id)] == numbers


def test_merging_the_same_again_in_one_run_changes_nothing(ledger: Engine) -> None:
    """A resumed crawl may see a scope twice in one run."""
    facts = key_with_everything()
    night(ledger, 1, batch(*facts))
    assert night(ledger, 1, batch(*facts, complete=((Key, ACCOUNT, REGION), (Tag, ARN)))) == Merged()


def test_a_second_look_in_one_run_replaces_the_first(ledger: Engine) -> None:
    """What a run saw and then saw otherwise was known in no run: no version of length nothing is left behind."""
    night(ledger, 1, batch((KeyMetadata, metadata(ARN, state="Enabled"))))
    night(ledger, 2, batch((KeyMetadata, metadata(ARN, state="Disabled"))))
    night(ledger, 2, batch((KeyMetadata, metadata(ARN, state="PendingDeletion"))))
    assert intervals(ledger, KeyMetadata, "state") == [("Enabled", 1, 2), ("PendingDeletion", 2, None)]


def test_what_comes_and_goes_in_one_run_was_never_there(ledger: Engine) -> None:
    """A key that a run's first look showed and its second, complete one did not leaves no trace, nor does its policy."""
    night(ledger, 1, batch(*key_with_everything()))
    night(ledger, 1, scope())
    for model in WITH_KEY:
        assert intervals(ledger, model, model.natural_key[0]) == []


def test_a_transaction_that_breaks_off_leaves_the_night_before(ledger: Engine) -> None:
    """A scope is saved as a whole or not at all, and can be merged again in the same run."""
    night(ledger, 1, batch(*key_with_everything()))

    def break_off() -> None:
        with ledger.begin() as connection:
            merge(connection, 2, batch(*key_with_everything(2), complete=((Key, ACCOUNT, REGION),)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert [one["key_id"] for one in known(ledger, Key)] == ["1"]
    assert night(ledger, 2, scope(key(2))) == Merged(opened=1, closed=7)


def test_a_statement_that_fails_leaves_the_night_before(ledger: Engine) -> None:
    """What the database refuses ends the whole transaction, also what was merged in it before; the next one is as any."""
    night(ledger, 1, batch(*key_with_everything()))

    def refused() -> None:
        with ledger.begin() as connection:
            merge(connection, 2, batch((Key, key(2)), complete=((Key, ACCOUNT, REGION),)))
            merge(connection, 2, batch((Key, key(3)), (Key, key(4) | {"region": None})))

    with pytest.raises(exc.IntegrityError):
        refused()
    assert [one["key_id"] for one in known(ledger, Key)] == ["1"]
    assert night(ledger, 2, scope(key(2))) == Merged(opened=1, closed=7)


def test_scopes_merged_together_are_as_if_merged_one_by_one(ledger: Engine) -> None:
    """Fifty scopes at once: each complete listing ends only what it covers."""
    regions = [f"region-{number}" for number in range(50)]

    def learned(run_id: int) -> Batch:
        whole = Batch()
        for number, region in enumerate(regions):
            part = batch(*((Key, key(one, ACCOUNT, region)) for one in range(run_id, run_id + 3)))
            if number % 2:
                part.mark_complete(Key, ACCOUNT, region)
            part.mark_complete(Alias, ACCOUNT, region)
            whole.extend(part)
        return whole

    assert night(ledger, 1, learned(1)) == Merged(opened=150)
    assert night(ledger, 2, learned(2)) == Merged(opened=50, closed=25)


def test_many_merges_in_one_transaction_see_each_other(ledger: Engine) -> None:
    """References are linked in chunks within one transaction: what one chunk staged does not leak into the next."""
    with ledger.begin() as connection:
        for start in range(0, 6000, 2000):
            learned = batch(*((Key, key(number)) for number in range(start, start + 2000)))
            assert merge(connection, 1, learned) == Merged(opened=2000)
        assert merge(connection, 2, scope(key(1))) == Merged(closed=5999)


def test_everything_can_be_told_at_once(ledger: Engine) -> None:
    """A table without a listing key is always merged as a whole: facts that are not shown are closed."""
    usages = [(ResourceKey, row(ResourceKey, resource_arn=f"r{number}", role="a", position=0)) for number in range(3)]
    night(ledger, 1, batch(*usages))
    assert night(ledger, 2, batch(usages[0], complete=((ResourceKey,),))) == Merged(closed=2)


def test_batches_add_up() -> None:
    """Scopes waiting together become one batch; written rows are summed."""
    one, other = scope(key(1)), scope(key(2), complete=False)
    one.extend(other)
    assert [values["key_id"] for values in one.rows[Key]] == ["1", "2"]
    assert one.complete_listings == {Key: {(ACCOUNT, REGION)}}
    assert replace(Merged(1, 2) + Merged(3, 4), opened=0) == Merged(0, 6)
