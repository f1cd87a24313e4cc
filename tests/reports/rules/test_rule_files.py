"""Tests of rule files: shipped, a user's own, and invalid ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from models.settings import Settings
from models.settings.report import ReportSettings
from reports.mart.build import DraftMart, build, mart_builder
from reports.mart.connection import connect
from reports.mart.errors import MartError
from reports.mart.internal_schema import create_schema
from reports.pipeline import draft_mart, refresh, run_rules
from reports.rules.framework_loader import controls_by_rule
from reports.rules.lint import check_branches, check_sources
from reports.rules.loader import FAMILIES, Rule, RuleError, load_rules, parse_rule
from reports.rules.runner import check_columns, evaluate_rules, population
from tests.reports.conftest import IRELAND, SHOP
from tests.reports.ledger_builder import LedgerBuilder, only, settings_of

RULE = """-- id: own-rule
-- title: Keys have a description
-- severity: low
-- why: People must know what a key is for.
-- fix: Describe it.
-- parameters:
--   least: '1'
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE WHEN description IS NULL THEN unknown('AWS did not report its description.')
    WHEN length(description) < CAST($least AS INTEGER) THEN fail('Its description is short.')
    WHEN length(description) >= CAST($least AS INTEGER) THEN pass('It is described.') END AS verdict
FROM keys
"""


@pytest.mark.parametrize("rule_id", ["secret-cross-account", "secret-cross-account-managed-key", "secret-public"])
@pytest.mark.parametrize("organization", ["[]", "['Shop']"])
def test_a_secret_whose_policy_is_unknown_passes_no_rule(rule_id: str, organization: str) -> None:
    """Whatever the view lists beside a policy that was not read, the result is unknown."""
    (rule,) = [rule for rule in load_rules(Settings()) if rule.rule_id == rule_id]
    with duckdb.connect() as duck:
        create_schema(duck)
        duck.execute(
            "CREATE TABLE internal.secret_readers AS SELECT 'arn' AS resource_arn, '1' AS account_id, 'r' AS region, "
            "NULL::TIMESTAMP AS deletion_at, NULL::BOOLEAN AS has_policy, NULL::VARCHAR AS unevaluated_reason, false AS denies, "
            f"false AS is_public, false AS possibly_public, {organization}::VARCHAR[] AS organization, "
            "[]::VARCHAR[] AS parties, []::VARCHAR[] AS external, []::VARCHAR[] AS unknown, 'current' AS freshness"
        )
        duck.execute(
            "CREATE TABLE resource_keys AS SELECT 'arn' AS resource_arn, 'AWS::SecretsManager::Secret' AS resource_type, "
            "0 AS position, 'key' AS key_arn, 'alias/x' AS key_alias, 'key' AS raw_value, 'customer' AS key_class, "
            "NULL::VARCHAR AS reason"
        )
        verdict = duck.execute(f"SELECT verdict.status FROM ({rule.query})", dict(rule.parameters) or None).fetchone()
    assert verdict in {("unknown",), (None,)}


def own(folder: Path, text: str = RULE, name: str = "own-rule.sql", **rules: Any) -> Settings:
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / name).write_text(text, encoding="utf-8")
    return settings_of(rules={"directories": [folder / "rules"]} | rules)


@pytest.fixture(scope="module")
def small_mart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DraftMart]:
    """A mart of one key, not yet published."""
    folder = tmp_path_factory.mktemp("small")
    world = LedgerBuilder(f"sqlite:///{folder / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.key(SHOP, IRELAND, "k1", description="x")
    world.crawl()
    with mart_builder(world.url, folder / "mart.duckdb", Settings()) as mart:
        yield mart


NO_CONTROL = frozenset(
    [
        "account-not-crawled",
        "alias-moved",
        "alias-target-missing",
        "alias-target-usable",
        "bucket-customer-managed-key",
        "bucket-key-usable",
        "cache-customer-managed-key",
        "cache-snapshot-key",
        "database-activity-stream-key",
        "database-backup-encrypted",
        "database-cluster-customer-managed-key",
        "database-customer-managed-key",
        "database-key-usable",
        "database-master-secret-key",
        "database-performance-insights-key",
        "database-snapshot-key-usable",
        "database-tier-key",
        "external-key-store",
        "grant-broad",
        "grant-create-grant",
        "grant-external",
        "grant-many",
        "grant-principal-gone",
        "grant-retiring-missing",
        "grant-stale",
        "grant-unconstrained",
        "iam-inline-policy-full-kms",
        "iam-not-read",
        "iam-policy-full-kms",
        "imported-material-expires",
        "imported-material-missing",
        "key-admin-breadth",
        "key-alias-missing",
        "key-confused-deputy",
        "key-delegation-missing",
        "key-deleted-principals",
        "key-deletion-window-short",
        "key-description-missing",
        "key-disabled",
        "key-external-access",
        "key-external-create-grant",
        "key-lockout",
        "key-multi-region",
        "key-never-used",
        "key-organization-wide",
        "key-owner-tag",
        "key-policies-unread",
        "key-policy-ineffective",
        "key-policy-not-principal",
        "key-policy-readable",
        "key-policy-user-principal",
        "key-policy-void-conditions",
        "key-policy-wildcard-actions",
        "key-protected-changed",
        "key-public-via-service",
        "key-rotation-imported",
        "key-rotation-on-demand-limit",
        "key-rotation-overdue",
        "key-rotation-period",
        "key-spec-strength",
        "key-store-connected",
        "key-tags-required",
        "key-unusable-in-use",
        "key-unused",
        "key-use-guard",
        "multi-region-policy-differs",
        "multi-region-regions",
        "multi-region-replica-usable",
        "multi-region-tags-differ",
        "operation-denied",
        "region-not-read",
        "resource-key-account",
        "resource-key-known",
        "secret-cross-account",
        "secret-cross-account-managed-key",
        "secret-customer-managed-key",
        "secret-key-usable",
        "secret-replica-key",
        "secret-replication",
        "secret-tagged",
        "serverless-cache-customer-managed-key",
        "trail-key-usable",
        "trail-logs-kms",
        "vendor-access-new",
        "vendor-external-id",
        "vendor-key-usable",
        "vendor-over-shared",
        "vendor-profile",
        "waiver-expired",
        "waiver-unused",
    ]
)
"""Rules that no control of a mapped framework is known to require."""


@pytest.mark.parametrize("rule", load_rules(Settings()), ids=lambda rule: rule.rule_id)
def test_every_shipped_rule_is_complete(rule: Rule) -> None:
    """A shipped rule has every text, and no default branch that passes or fails."""
    assert rule.source == f"{rule.rule_id}.sql"
    assert len(rule.why) > 80
    assert len(rule.fix) > 80
    assert rule.family in FAMILIES
    assert all((rule.console, rule.cli, rule.terraform))
    assert all(rule.about[name] for name in rule.parameters)
    assert not list(check_branches(rule.query))
    assert not list(check_sources(rule.query))


def test_every_shipped_rule_is_mapped_or_listed_as_unmapped() -> None:
    """A new rule is mapped to a framework, or added to NO_CONTROL after review."""
    shipped = {rule.rule_id for rule in load_rules(Settings())}
    assert shipped - set(controls_by_rule()) == NO_CONTROL


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "('It is described.') END",
            "('It is described.') ELSE pass('x') END",
            (11, "ELSE pass(...): an unforeseen case must not pass"),
        ),
        ("('It is described.') END", "('It is described.')\n    else FAIL('x') END", (12, "ELSE fail(...)")),
        (
            "('It is described.') END",
            "('It is described.')\n  ELSE CASE WHEN true THEN pass('ä')\nELSE fail('x') END END",
            (13, "ELSE fail("),
        ),
    ],
)
def test_a_query_is_checked_before_it_runs(old: str, new: str, expected: tuple[int, str]) -> None:
    """Static checks report the line, and ignore comments and reasons."""
    assert not list(check_branches(RULE + "-- ELSE pass('x')\n"))
    [(line, problem)] = check_branches(RULE.replace(old, new))
    assert (line, problem[: len(expected[1])]) == expected


@pytest.mark.parametrize(
    "columns", ["'fail' AS status, 'x' AS reason", "* FROM (SELECT 'fail' AS status, 'x' AS reason)"]
)
def test_a_rule_with_status_and_reason_shows_the_change(small_mart: DraftMart, columns: str) -> None:
    """A rule that returns status and reason in two columns is an error, which shows the column to return instead."""

    def evaluate() -> None:
        query = f"SELECT 'x' AS resource_arn, 'a' AS account_id, 'r' AS region, NULL AS key_arn, {columns}"
        rule = parse_rule("own.sql", RULE.partition("-- parameters")[0] + query)
        evaluate_rules(small_mart.duck, small_mart.as_of, [rule])

    expected = r"own\.sql: .*THEN fail\('reason'\) .* AS verdict \(docs/rules\.md\)"
    with pytest.raises(RuleError, match=expected) as caught:
        evaluate()
    assert caught.value.exit_code == 2


def test_own_rules_join_the_shipped_ones(tmp_path: Path) -> None:
    """A rule in a directory of the settings is in force, with its parameters from the settings."""
    settings = own(tmp_path, parameters={"own-rule": {"least": "10"}}, disable=["key-rotation"])
    rules = {rule.rule_id: rule for rule in load_rules(settings)}
    assert rules["own-rule"].parameters == {"least": "10"}
    assert "key-rotation" not in rules


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("-- severity: low", "-- severity: grave", ":3: expected one of critical"),
        ("-- id: own-rule", "-- id: Own Rule", ":1: expected lower-case words"),
        ("-- fix: Describe it.", "-- fixes: Describe it.", ":5: 'fixes' is not a key of the header"),
        ("-- fix: Describe it.\n", "", "needs a text for 'fix'"),
        ("-- fix: Describe it.", "-- fix: [a", "not valid YAML"),
        ("FROM keys", "FROM keys; DROP TABLE keys", ":8: expected one SELECT"),
        ("FROM keys", "FROM keys WHERE (", "not valid SQL"),
        ("$least", "$most", ":8: parameter $most is not declared"),
        ("CAST($least AS INTEGER)", "1", ":8: parameter 'least' is declared but not used"),
        ("--   least: '1'", "--   Least: '1'", ":7: expected names"),
        ("--   least: '1'", "--   least: [a]", ":7: expected {default: TEXT, about: TEXT} for parameter 'least'"),
        ("--   least: '1'", "--   least: {about: a}", ":7: expected {default: TEXT, about: TEXT}"),
        ("-- parameters:\n--   least: '1'", "-- parameters: [least]", ":6: expected names"),
        ("-- fix: Describe it.", "-- fix: Describe it.\n-- cli: ''", ":6: the header needs a text for 'cli'"),
        ("-- fix: Describe it.", "-- fix: Describe\0it.", ":5: not valid YAML: the character U+0000 is not allowed"),
        ("-- fix: Describe it.", "-- fix: Describe it.\n-- fix: Again.", ":6: 'fix' is already on line 5"),
        ("-- fix: Describe it.", "-- fix: " + "[" * 100_000, ":1: not valid YAML: lists or mappings nested too deeply"),
        ("-- fix: Describe it.", "-- fix: " + "[" * 200 + "]" * 200, ":5: not valid YAML: values nested too deeply"),
        ("-- fix: Describe it.", "-- fix: &a [*a]", ":5: not valid YAML: values nested too deeply"),
        ("SELECT", "UPDATE EXTENSIONS; SELECT", "expected one SELECT after the header"),
        (RULE[RULE.index("SELECT") :], "UPDATE EXTENSIONS", "expected one SELECT after the header"),
    ],
)
def test_an_error_in_a_file_is_reported_with_its_line(old: str, new: str, expected: str) -> None:
    """An error in a rule file is reported with file, line and the expected value."""
    with pytest.raises(RuleError, match=r"^own\.sql:") as caught:
        parse_rule("own.sql", RULE.replace(old, new))
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", ":1: the header needs a text for 'family'"),
        ("-- fix", "-- frameworks: [PCI]\n-- fix", ":5: 'frameworks' is not a key of the header"),
        ("-- fix", "-- family: keys\n-- console: a\n-- cli: a\n-- terraform: a\n-- fix", ":5: expected one of state"),
        (
            "-- fix",
            "-- family: state\n-- console: a\n-- cli: a\n-- terraform: a\n-- fix",
            ":11: expected {default: TEXT, about: TEXT} for parameter 'least'",
        ),
    ],
)
def test_a_shipped_rule_needs_every_field(old: str, new: str, expected: str) -> None:
    """Fields that are optional in a user's rule are required in a shipped one."""
    with pytest.raises(RuleError, match=r"^own\.sql:") as caught:
        parse_rule("own.sql", RULE.replace(old, new, 1), complete=True)
    assert expected in str(caught.value)


def test_parameters_have_a_meaning() -> None:
    """A parameter has a default and a description; a plain text is the default."""
    rule = parse_rule("own.sql", RULE)
    assert (rule.parameters, rule.about, rule.family, rule.cli) == ({"least": "1"}, {"least": ""}, "own", None)
    rule = parse_rule("own.sql", RULE.replace("least: '1'", "least: {default: '2', about: characters}"))
    assert (rule.parameters, rule.about) == ({"least": "2"}, {"least": "characters"})


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"disable": ["no-rule"]}, "rules.disable names no-rule"),
        ({"parameters": {"no-rule": {"a": "b"}}}, "rules.parameters names no-rule"),
        ({"parameters": {"database-tier-key": {"colour": "b"}}}, "choose from tag, value"),
        ({"directories": [Path("/no/such")]}, "which is not a directory"),
    ],
)
def test_unknown_names_in_the_settings_are_errors(rules: dict[str, Any], expected: str) -> None:
    """An unknown rule, parameter or directory in the settings is an error."""
    with pytest.raises(RuleError, match=expected):
        load_rules(settings_of(rules=rules))


def test_duplicate_rule_ids_are_errors(tmp_path: Path) -> None:
    """A user's rule cannot replace a shipped one."""
    with pytest.raises(RuleError, match=r"already defined in key-rotation\.sql"):
        load_rules(own(tmp_path, RULE.replace("own-rule", "key-rotation")))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("AS verdict", "AS result", "expected the columns"),
        ("END AS verdict", "END IS NULL AS verdict", "expected a verdict such as fail"),
        ("pass('It is described.')", "{'status': 'good', 'reason': 'x'}", "has status 'good'"),
        ("FROM keys", "FROM keys, range(2)", "is returned twice"),
        ("'It is described.'", "NULL", "has no reason"),
        ("key_arn AS resource_arn", "NULL AS resource_arn", "no resource_arn"),
        ("description IS NULL", "nothing IS NULL", "rule own-rule failed"),
        ("CAST($least AS INTEGER) THEN fail", "CAST($least || 'x' AS INTEGER) THEN fail", "rule own-rule failed"),
    ],
)
def test_a_rule_that_breaks_the_contract_is_an_error(old: str, new: str, expected: str, small_mart: DraftMart) -> None:
    """Wrong columns, invalid statuses and duplicate resources raise RuleError with the file's name."""
    rule = parse_rule("own-rule.sql", RULE.replace(old, new))
    with pytest.raises(RuleError, match=expected) as caught:
        evaluate_rules(small_mart.duck, small_mart.as_of, [rule])
    assert "own-rule.sql" in str(caught.value)


def test_rules_on_a_mart_of_another_version_say_how_to_rebuild_it(tmp_path: Path) -> None:
    """A rule that fails on a mart of another version names the command; on one of this version, only the rule is at fault."""
    rule = parse_rule("own-rule.sql", RULE.replace("description IS NULL", "nothing IS NULL"))
    path = tmp_path / "mart.duckdb"
    world = LedgerBuilder(f"sqlite:///{tmp_path / 'ledger.db'}")
    world.account(SHOP, "Shop", IRELAND)
    world.crawl()
    build(world.url, path, Settings())
    with connect(path) as connection, pytest.raises(RuleError) as of_this_version:
        list(population(connection, rule))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE internal.build_manifest SET program = 'older'")
    with connect(path) as connection, pytest.raises(RuleError) as of_another:
        list(population(connection, rule))
    hint = "; another version of kmsledger built the mart: run `kmsledger mart` to rebuild it"
    assert hint not in str(of_this_version.value)
    assert str(of_another.value) == str(of_this_version.value) + hint


def test_a_lack_of_memory_while_rules_run_is_explained(world: LedgerBuilder, tmp_path: Path) -> None:
    """The message is about memory and not about a rule; the old mart is untouched, and no draft is left."""
    world.key(SHOP, IRELAND, "k1")
    world.crawl()
    path = tmp_path / "mart.duckdb"
    settings = settings_of(database=world.url, report={"mart": path}, rules=only("key-rotation"))
    refresh(settings)
    before = path.read_bytes()
    message = "could not be built: memory or the disk for temporary files is full; .* the old mart is untouched"

    def build_in_little_memory() -> None:
        with draft_mart(settings) as mart:
            mart.duck.execute("SET max_temp_directory_size = '0B'; SET memory_limit = '1MB'")
            run_rules(mart, settings)

    with pytest.raises(MartError, match=message):
        build_in_little_memory()
    assert path.read_bytes() == before
    assert not [file for file in tmp_path.iterdir() if ".new" in file.name]


@pytest.mark.parametrize("status", ["'good'", "NULL"])
def test_a_rule_on_demand_hides_no_invalid_status(small_mart: DraftMart, status: str) -> None:
    """A resource without a valid status is an error, whatever status and account are selected, and not a missing row."""
    verdict = f"{{'status': {status}, 'reason': 'x'}}"
    rule = parse_rule("own-rule.sql", RULE.replace("pass('It is described.')", verdict))
    with pytest.raises(RuleError, match=r"own-rule\.sql: .*key/k1 has status"):
        list(population(small_mart.duck, rule, ("fail",), ("999999999999",)))


def test_a_problem_that_a_shipped_rule_returns_twice_is_an_error(small_mart: DraftMart) -> None:
    """Two problems of one resource are an error, even with different reasons: the check of users' rules does not run here."""
    reason = "CASE WHEN i = 0 THEN 'A.' ELSE 'B.' END"
    text = RULE.replace("pass('It is described.')", f"fail({reason})").replace("FROM keys", "FROM keys, range(2) r(i)")
    rule = replace(parse_rule("own-rule.sql", text), shipped=True)
    with pytest.raises(RuleError, match="is returned twice"):
        evaluate_rules(small_mart.duck, small_mart.as_of, [rule])


def test_every_shipped_rule_returns_the_expected_columns(small_mart: DraftMart) -> None:
    """Runs do not check the columns of shipped rules."""
    for rule in load_rules(Settings()):
        check_columns(small_mart.duck, rule)


def test_a_row_without_a_true_condition_is_unknown(small_mart: DraftMart) -> None:
    """A CASE without a matching branch never passes."""
    rule = parse_rule("own-rule.sql", RULE.replace("length(description)", "nullif(length(description), 1)"))
    [row] = population(small_mart.duck, rule)
    assert row[4:] == ("unknown", "No condition of the rule applies to this resource.")


def test_a_note_is_appended_to_every_reason(small_mart: DraftMart) -> None:
    """The optional column note ends the reason; NULL appends nothing."""
    for note, expected in (("' So.'", "It is described. So."), ("NULL", "It is described.")):
        rule = parse_rule("own-rule.sql", RULE.replace("AS verdict", f"AS verdict, {note} AS note"))
        assert [row[5] for row in population(small_mart.duck, rule)] == [expected]


def test_no_rule_starts_after_a_failure(small_mart: DraftMart) -> None:
    """The thread that runs other rules ends with its current rule."""
    texts = [RULE.replace("own-rule", f"own-{number:03}") for number in range(40)]
    texts[0] = texts[0].replace("description IS NULL", "nothing IS NULL")
    with pytest.raises(RuleError, match="own-000 failed"):
        evaluate_rules(small_mart.duck, small_mart.as_of, [parse_rule("own.sql", text) for text in texts])
    [(finished,)] = small_mart.duck.execute("SELECT count(DISTINCT rule_id) FROM memory.main.result").fetchall()
    assert finished < 39


def test_a_rule_that_breaks_the_contract_stops_the_refresh(world: LedgerBuilder, tmp_path: Path) -> None:
    """An error in a user's rule stops the refresh, and no mart is published."""
    world.key(SHOP, IRELAND, "k1", description="x")
    world.crawl()
    settings = own(tmp_path, RULE.replace("pass('It is described.')", "{'status': 'good', 'reason': 'x'}"), **only())
    mart = tmp_path / "mart.duckdb"
    with pytest.raises(RuleError, match=r"own-rule\.sql: .* has status 'good'"):
        refresh(settings.model_copy(update={"database": world.url, "report": ReportSettings(mart=mart)}))
    assert not mart.exists()


def test_parameters_are_bound_values(world: LedgerBuilder, tmp_path: Path) -> None:
    """A parameter that contains quotes and SQL is treated as a value."""
    world.key("111122223333", "eu-west-1", "k1")
    world.database("111122223333", "eu-west-1", "db1")
    world.crawl()
    mart = tmp_path / "mart.duckdb"
    injection = "x' OR 1=1; DROP TABLE keys; --"
    settings = settings_of(
        database=world.url,
        report={"mart": mart},
        rules={**only("database-tier-key"), "parameters": {"database-tier-key": {"tag": injection}}},
    )
    refresh(settings)
    connection = connect(mart)
    rows = connection.execute("SELECT reason FROM findings WHERE rule_id = 'database-tier-key'").fetchall()
    connection.close()
    assert any(injection in reason for (reason,) in rows)


def test_findings_are_history(world: LedgerBuilder, tmp_path: Path) -> None:
    """A finding dates from the first run with its result; disabling the rule closes it, enabling opens a new one."""
    key = world.key("111122223333", "eu-west-1", "k1", rotation="disabled")
    mart = tmp_path / "mart.duckdb"

    def findings(*rule_ids: str) -> list[tuple[Any, ...]]:
        world.crawl()
        refresh(settings_of(database=world.url, report={"mart": mart}, rules=only(*rule_ids)))
        connection = connect(mart)
        rows = connection.execute(
            "SELECT status, (SELECT run_id FROM runs WHERE started_at = since) FROM findings "
            "WHERE rule_id = 'key-rotation'"
        ).fetchall()
        connection.close()
        return rows

    assert findings("key-rotation") == [("fail", 1)]
    assert findings("key-rotation") == [("fail", 1)]
    assert findings("key-disabled") == []
    world.key("111122223333", "eu-west-1", "k1", rotation="enabled")
    assert findings("key-rotation") == [("pass", 4)]
    assert key.endswith("k1")


def test_resources_unknown_to_the_ledger_keep_the_texts_of_the_rule(world: LedgerBuilder, tmp_path: Path) -> None:
    """Findings keep resources, keys and account-regions that only the rule knows, unchanged from run to run."""
    key = world.key(SHOP, IRELAND, "k1")
    world.crawl()
    unknown_key = "arn:aws:kms:mars-1:999900001111:key/k9"
    returned = [
        ("arn:of:nothing", "999900001111", "mars-1", unknown_key, "fail"),
        ('arn:"odd"\\', "999900001111", None, None, "pass"),
        ("arn:at-home", SHOP, IRELAND, key, "fail"),
        (key, SHOP, IRELAND, unknown_key, "fail"),
        (unknown_key, None, None, unknown_key, "pass"),
    ]

    def literal(text: str | None) -> str:
        return "NULL" if text is None else "'" + text.replace("'", "''") + "'"

    rows = ", ".join(f"({', '.join(map(literal, row))}, 'So.')" for row in returned)
    columns = "resource_arn, account_id, region, key_arn"
    text = RULE[: RULE.index("-- parameters")]
    text += f"SELECT {columns}, verdict_of(s = 'pass', r) AS verdict FROM (VALUES {rows}) v ({columns}, s, r)\n"
    settings = settings_of(
        database=world.url,
        report={"mart": str(tmp_path / "mart.duckdb")},
        rules={**only(), "directories": own(tmp_path, text).rules.directories},
    )
    expected = {row for row in returned if row[-1] == "fail"}
    for _ in range(2):
        refresh(settings)
        with connect(tmp_path / "mart.duckdb") as mart:
            query = "SELECT resource_arn, account_id, region, key_arn, status FROM findings WHERE rule_id = 'own-rule'"
            assert set(mart.execute(query).fetchall()) == expected
            history = mart.execute(
                "SELECT resource_arn, account_id, region, key_arn, status FROM findings_history WHERE rule_id = 'own-rule'"
            ).fetchall()
            assert set(history) == expected
            assert len(history) == 3


@pytest.mark.parametrize(("severity", "expected"), [("'critical'", "critical"), ("NULL", "low")])
def test_a_row_can_have_a_severity_of_its_own(small_mart: DraftMart, severity: str, expected: str) -> None:
    """The optional column severity replaces the severity of the rule; NULL keeps it."""
    text = RULE.replace("least: '1'", "least: '9'").replace("AS verdict", f"AS verdict, {severity} AS severity")
    evaluate_rules(small_mart.duck, small_mart.as_of, [parse_rule("own-rule.sql", text)])
    rows = small_mart.duck.execute("SELECT severity, status FROM memory.main.current_finding").fetchall()
    assert rows == [(expected, "fail")]


def test_a_severity_that_does_not_exist_is_an_error(small_mart: DraftMart) -> None:
    """The error names the rule's file, the resource and the severities."""
    rule = parse_rule("own-rule.sql", RULE.replace("AS verdict", "AS verdict, 'grave' AS severity"))
    with pytest.raises(RuleError, match=r"own-rule\.sql: .*key/k1 has a severity other than critical, high"):
        evaluate_rules(small_mart.duck, small_mart.as_of, [rule])
