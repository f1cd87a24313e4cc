"""Reports about one account or owner: complete about it, and nothing about others."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.settings import Settings
from models.tables import Key
from reports.html.labels import rule_state, rules_by_state
from reports.html.registry import find, write
from reports.html.subjects import account, owner, slug
from reports.html.tables import sql_command
from reports.mart.errors import QueryError
from reports.pipeline import failing, refresh
from tests.reports.html.conftest import INVOICES, TEAM, Make
from tests.reports.html.page import Node, broken_links, read
from tests.reports.ledger_builder import LedgerBuilder
from tests.reports.sample_ledger import DATA, IRELAND, LOCKED, PAYMENTS, SHOP

SUBJECTS = (
    ("account", PAYMENTS),
    ("owner", "shop"),
    *(pytest.param("account", account_id, marks=pytest.mark.deep) for account_id in (SHOP, DATA, LOCKED)),
    pytest.param("ou", "/Research & <b>Data</b>", marks=pytest.mark.deep),
    *(pytest.param("owner", name, marks=pytest.mark.deep) for name in (TEAM, "payments", "locked")),
)
SITUATION = f"s-{hashlib.md5(f'key {INVOICES}'.encode()).hexdigest()[:12]}"  # noqa: S324 - the ID of a situation
Report = Callable[[str, str], Node]


@pytest.fixture(scope="module")
def report(settings: Settings) -> Report:
    """The report about an account or owner, written once."""

    @cache
    def report(name: str, subject: str) -> Node:
        path, _ = write(
            [find(name, subject)], settings.report.mart, settings.report.directory, settings, subject=subject
        )
        return read(path.read_text(encoding="utf-8"))

    return report


def column(mart: duckdb.DuckDBPyConnection, query: str, *values: Any) -> set[str]:
    return {str(value) for (value,) in mart.execute(query, values).fetchall() if value}


def arns_of(mart: duckdb.DuckDBPyConnection, kind: str, name: str) -> set[str]:
    """The keys and resources of an account, organizational unit or owner; of a key, the key."""
    if kind == "key":
        return {name}
    if kind == "owner":
        return column(mart, "SELECT resource_arn FROM owners WHERE owner = ?", name)
    things = "SELECT key_arn AS arn, account_id FROM keys UNION ALL SELECT resource_arn, account_id FROM resources"
    query = f"SELECT arn FROM ({things}) WHERE account_id IN (SELECT account_id FROM accounts WHERE ? IN (account_id, ou_path))"
    return column(mart, query, name)


def everything(page: Node) -> str:
    """All texts of a page, without its script, and all its data."""
    tables = {node.attributes["data-name"] for node in page.all("div", class_="table")}
    visible = page.one("header", class_="top").text + page.one("nav").text + page.one("main").text
    return visible + json.dumps([page.data(table) for table in sorted(tables)], ensure_ascii=False)


def facts_naming(mart: duckdb.DuckDBPyConnection, mine: list[str]) -> str:
    """The facts about keys and resources that can name others."""
    query = """
        WITH mine AS (SELECT unnest($1::VARCHAR[]) AS arn)
        SELECT concat_ws(' ', u.resource_arn, u.account_id, u.account_name, u.key_arn, u.key_alias, u.raw_value, a.name)
        FROM resource_keys u LEFT JOIN accounts a ON a.account_id = u.key_account_id
        WHERE u.resource_arn IN (FROM mine) OR u.key_arn IN (FROM mine)
        UNION ALL
        SELECT received FROM key_policies WHERE key_arn IN (FROM mine)
        UNION ALL
        SELECT concat_ws(' ', grantee, retiring_principal, constraints, name) FROM grants WHERE key_arn IN (FROM mine)
        UNION ALL
        SELECT party_name FROM key_principals WHERE key_arn IN (FROM mine)
        UNION ALL
        SELECT concat_ws(' ', message, before, after) FROM changes WHERE list_has_any([key_arn, resource_arn], $1)
        UNION ALL
        SELECT reason FROM findings WHERE list_has_any([key_arn, resource_arn], $1)
        """
    return " ".join(column(mart, query, mine))


def names_of_others(mart: duckdb.DuckDBPyConnection, mine: list[str], accounts: list[str]) -> set[str]:
    """The names of the keys, resources and accounts that are not among these."""
    query = """
        SELECT unnest([key_arn, key_id] || aliases) FROM keys WHERE key_arn NOT IN (SELECT unnest($1::VARCHAR[]))
        UNION SELECT resource_arn FROM resources WHERE resource_arn NOT IN (SELECT unnest($1::VARCHAR[]))
        UNION SELECT unnest([account_id, name]) FROM accounts WHERE account_id NOT IN (SELECT unnest($2::VARCHAR[]))
        EXCEPT SELECT unnest([key_id] || aliases) FROM keys WHERE key_arn IN (SELECT unnest($1::VARCHAR[]))
        """
    names = column(mart, query, mine, accounts)
    assert len(names) > 20
    return names


@pytest.mark.parametrize(("kind", "name"), [*SUBJECTS, ("key", INVOICES)])
def test_nothing_of_others(report: Report, mart: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
    """No name of another key, resource, account or owner is in any text or data, unless a fact of the subject has it.

    Such facts are the references between its keys and resources and those of others, the policies and grants of its keys, and the
    texts of its own findings and changes.
    """
    mine = list(arns_of(mart, kind, name))
    accounts = [*column(mart, "SELECT account_id FROM owners WHERE owner = ?", name), name, *name.split(":")[4:5]]
    naming, text = facts_naming(mart, mine), everything(report(kind, name))
    assert not re.search("FROM situation_findings|cookbook situations", text), "the command prints rows of others"
    foreign = names_of_others(mart, mine, accounts)
    assert {other for other in foreign if re.search(rf"\b{re.escape(other)}", text) and other not in naming} == set()
    owners = column(
        mart,
        "SELECT owner FROM owners EXCEPT SELECT owner FROM owners WHERE list_contains($1, resource_arn)",
        [*mine, name],
    )
    assert {other for other in owners if f'"{other}"' in text or f"owner {other}" in text} == set()


@pytest.mark.parametrize(("kind", "name"), SUBJECTS)
def test_everything_that_is_theirs(report: Report, mart: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
    """Each key, reference and finding of the subject is in the tables, and the figures count exactly these."""
    page, mine = report(kind, name), arns_of(mart, kind, name)
    keys = column(mart, "SELECT key_arn FROM keys") & mine
    assert {row["key_arn"] for row in page.data("keys")} == keys
    assert tile(page, "Customer managed keys") + tile(page, "AWS managed keys") == len(keys)
    used = "SELECT resource_arn || ' ' || role FROM resource_keys WHERE list_has_any([resource_arn, key_arn], $1)"
    assert {f"{row['resource_arn']} {row['role']}" for row in page.data("references")} == column(mart, used, list(mine))
    whose = {"owner": "owner", "ou": "ou_path"}.get(kind, "account_id")
    problems = (
        f"SELECT rule_id || resource_arn FROM findings WHERE {whose} = ? AND status IN ('fail', 'unknown', 'waived')"
    )
    found = column(mart, problems, name)
    assert {row["rule_id"] + row["resource_arn"] for row in page.data("findings")} == found
    assert sum(row["fail"] + row["unknown"] + row["waived"] for row in page.data("rules")) == len(found)
    counts = {
        "Grants": "SELECT count(*) FROM grants WHERE list_contains($1, key_arn)",
        "Aliases": "SELECT count(*) FROM aliases WHERE list_contains($1, coalesce(target_key_arn, $2)) OR account_id = $2",
        "Resources that can use keys": "SELECT count(*) FROM resources WHERE list_contains($1, resource_arn) AND $2 <> ''",
    }
    for label, query in counts.items():
        values = [list(mine), name] if "$2" in query else [list(mine)]
        assert tile(page, label) == int(next(iter(column(mart, query, *values)), 0)), label
    if kind == "account":
        passed = column(mart, "SELECT sum(passed) FROM rule_results WHERE account_id = ?", name)
        assert {str(sum(row["pass"] for row in page.data("rules")))} == (passed or {"0"})


@pytest.mark.parametrize(("kind", "name"), [*SUBJECTS, ("key", INVOICES)])
def test_every_link_leads_somewhere(report: Report, kind: str, name: str) -> None:
    """No link leads to a row of others, which the page does not have."""
    assert broken_links(report(kind, name)) == set()


def tile(page: Node, label: str) -> int:
    (found,) = [node for node in page.all("div", class_="tile") if node.one("dt").text == label]
    return int(found.one("dd", class_="big").text.replace(",", ""))


def test_a_key_of_others_that_will_be_deleted(report: Report) -> None:
    """A resource whose key is in another account is a situation with the state of that key, its date and only its resources."""
    page = report("account", PAYMENTS)
    (entry,) = page.one("section", id="attention").all("li", id=SITUATION)
    assert "alias/invoices" in entry.text
    assert "will be deleted" in entry.text
    assert "1 resource (1 Secrets Manager) depends on it: payments/shared" in entry.text
    assert "2026-12-21" in entry.text
    assert f"The key belongs to account {SHOP}: ask its owner to keep it" in entry.text
    assert "aws kms" not in entry.text
    (dependent,) = [row for row in page.data("dependents") if row["key_arn"] == INVOICES]
    assert (dependent["state"], dependent["known_arn"], dependent["resources"]) == ("PendingDeletion", None, 1)
    (entry,) = report("account", SHOP).one("section", id="attention").all("li", id=SITUATION)
    assert "payments/shared" in entry.text
    assert "aws kms cancel-key-deletion" in entry.text


def test_passes_of_an_owner_are_not_counted(report: Report) -> None:
    """Passes are counted by account: the report about an owner shows no number for them, also not zero."""
    page = report("owner", TEAM)
    assert "Passes are counted by account and region, not by owner." in page.one("section", id="findings").text
    assert {row["pass"] for row in page.data("rules")} == {None}
    for mentions, shown in ((page, False), (report("account", SHOP), True)):
        labels = {node.text for node in [*mentions.all("th"), *mentions.all("dt")]}
        assert ({"Pass", "Not applicable"} & labels == {"Pass", "Not applicable"}) is shown


def test_the_state_of_the_run_is_theirs(report: Report) -> None:
    """A run with gaps elsewhere is complete for an account without gaps."""
    cover = report("account", PAYMENTS).one("div", class_="cover").text
    assert "Every account and region in scope was read" in cover
    assert "1 of 1 account-region (100 %) was read completely" in cover
    assert "AWS call" not in report("account", PAYMENTS).one("header", class_="top").text


def test_the_commands_print_the_rows_of_the_table(report: Report, mart: duckdb.DuckDBPyConnection) -> None:
    """The command below a table of a subject prints the subject's rows, for hostile names too."""
    for subject, page in ((account(SHOP, "Shop"), report("account", SHOP)), (owner(TEAM, 2), report("owner", TEAM))):
        for table, sql in (
            ("keys", "SELECT * FROM keys ORDER BY account_id"),
            ("references", "SELECT * FROM resource_keys"),
            ("changes", "SELECT * FROM changes WHERE run_id = 3"),
            ("gaps", "SELECT * FROM coverage WHERE outcome = 'gap'"),
            ("resolved", "SELECT * FROM finding_lifecycle WHERE resolved_at = (SELECT max(started_at) FROM runs)"),
        ):
            limited = subject.limited(sql)
            assert len(mart.execute(limited).fetchall()) == len(page.data(table)), table
            assert sql_command(limited).startswith("kmsledger sql ")


@pytest.mark.deep
def test_what_an_owner_lost(make_settings: Make) -> None:
    """A key that no longer exists belongs to its owner as of the previous run: its end is a change in its report only."""
    settings = make_settings(owners=[{"tag": "Owner"}])
    world = LedgerBuilder(settings.database)
    world.account(SHOP, "Shop", IRELAND)
    keys = [world.key(SHOP, IRELAND, f"00000000-0000-4000-8000-00000000000{number}") for number in range(4)]
    for number, key in enumerate(keys):
        world.tag(key, Owner="team" if number < 2 else "others")
    world.crawl()
    world.remove(Key, keys[0])
    world.remove(Key, keys[2])
    world.crawl()
    refresh(settings)
    for name, lost in (("team", keys[0]), ("others", keys[2])):
        path, _ = write([find("owner", name)], settings.report.mart, settings.report.directory, settings, subject=name)
        page = read(path.read_text(encoding="utf-8"))
        assert [row["message"].partition(" in ")[0] for row in page.data("changes")] == [
            f"Key {lost.rpartition('/')[2]}"
        ]
        assert len(page.data("keys")) == 1


def test_files_have_safe_names(report: Report, settings: Settings) -> None:
    """The name of a file has no character with a meaning in a path, and differs for names that differ in such characters only."""
    assert report("owner", TEAM)
    names = sorted(path.name for path in settings.report.directory.glob("kmsledger-owner-team*"))
    assert len(names) == 2
    assert all(re.fullmatch(r"kmsledger-owner-team-b-b-[0-9a-f]{8}(-run3)?\.html", name) for name in names), names
    assert len({slug("a/b"), slug("a b"), slug("A b"), slug("a--b")}) == 4
    assert slug("日本").isalnum()


def test_as_of_an_earlier_run(settings: Settings, tmp_path: Path) -> None:
    """As of an earlier run, the report has the account's keys of that run; an account that joined later is an error."""
    paths = write([find("account", SHOP)], settings.report.mart, tmp_path, settings, subject="shop", as_of="1")
    assert [path.name for path in paths] == [f"kmsledger-account-{SHOP}-as-of-run1.html"]
    (invoices,) = [row for row in read(paths[0].read_text("utf-8")).data("keys") if row["key_arn"] == INVOICES]
    assert invoices["state"] == "Enabled"
    with pytest.raises(QueryError, match=f"there is no account '{PAYMENTS}'"):
        write([find("account", PAYMENTS)], settings.report.mart, tmp_path, settings, subject=PAYMENTS, as_of="1")


@pytest.mark.parametrize(
    ("name", "subject", "message"),
    [
        ("account", "Shap", "did you mean Shop"),
        ("account", "000000000000", "lists them"),
        ("owner", "payment", "did you mean payments?"),
        ("owner", "nobody at all", "SELECT DISTINCT owner FROM owners"),
    ],
)
def test_unknown_subjects(settings: Settings, tmp_path: Path, name: str, subject: str, message: str) -> None:
    """An unknown account or owner is one sentence with close names or the query that lists them, and exit code 2."""
    with pytest.raises(QueryError, match=message) as error:
        write([find(name, subject)], settings.report.mart, tmp_path, settings, subject=subject)
    assert error.value.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_failures_of_the_subject_decide_the_exit_code(settings: Settings) -> None:
    """`--fail-on` counts the failures of the subject only."""
    shop, payments = (failing(settings, "low", report=find("account", name), subject=name) for name in (SHOP, PAYMENTS))
    assert 0 < payments < shop < failing(settings, "low")


def test_a_rule_with_waived_findings_only_does_not_pass_where_passes_are_not_counted() -> None:
    """The sentence above the table of rules says the same about a rule as its row."""
    rule: dict[str, Any] = {**dict.fromkeys(("fail", "unknown", "not_applicable"), 0), "waived": 1, "pass": None}
    assert rule_state(rule) == "has no open finding"
    assert rules_by_state([rule, rule]) == "2 have no open finding"
