"""The analysts' vocabulary over a ledger with everything in it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import pytest

from reports.mart.view_loader import View, inlined, views
from tests.reports.conftest import Ask
from tests.reports.sample_ledger import DATA, HOSTILE, LOCKED, PAYMENTS, SHOP, VENDOR

KEYS = (
    "key_arn key_id account_id account_name region alias aliases manager state enabled description key_usage "
    "key_spec origin created_at age_days deletion_date days_to_deletion pending_window_days material_expires_at "
    "expiration_model multi_region multi_region_type primary_arn replica_arns custom_key_store_id rotation "
    "rotation_reason rotation_period_days next_rotation_at last_rotated_at last_used_at last_used_operation last_use "
    "last_use_reason last_use_polled_at last_use_reported_at last_use_tracked_since grants dependent_resources tags policy_known "
    "delegates_to_iam known unknown first_run since last_seen_run"
)
CONTRACT = {
    "runs": "run_id started_at finished_at status version caller_arn partition organization_id management_account_id "
    "accounts scopes calls gaps message",
    "accounts": "account_id name email state ou_path ou_ids joined_at is_management selection coverage since",
    "keys": KEYS,
    "aliases": "alias_arn alias_name account_id account_name region target_key_arn predefined created_at updated_at since",
    "key_tags": "key_arn account_id region tag_key tag_value since",
    "resource_tags": "resource_arn account_id region tag_key tag_value since",
    "key_policies": "key_arn account_id region policy received statements readable since",
    "key_policy_statements": "key_arn account_id region position sid effect principal_kind principals actions "
    "not_actions resources has_resource conditions since",
    "key_principals": "key_arn account_id region source source_id effect principal principal_type principal_account "
    "party party_name actions condition_keys since",
    "grants": "key_arn account_id account_name region grant_id name grantee grantee_principal "
    "grantee_service_principal retiring_principal retiring_service_principal issuing_account operations for_service "
    "constraints created_at since",
    "customer_grants": "key_arn account_id account_name region grant_id name grantee grantee_principal "
    "grantee_service_principal retiring_principal retiring_service_principal issuing_account operations for_service "
    "constraints created_at since resource_arn",
    "key_rotations": "key_arn rotated_at rotation_type key_material_id key_material_state",
    "custom_key_stores": "account_id region store_id name store_type connection_state connection_error "
    "cloud_hsm_cluster_id xks_connectivity created_at",
    "resources": "resource_arn resource_type service account_id account_name region name status encryption created_at "
    "deletion_at details known since",
    "key_usage": "resource_arn resource_type service resource_name account_id account_name region role position raw "
    "form key_arn key_alias key_account_id key_state key_class reason known since",
    "secrets": "resource_arn account_id region name exempt primary_region details created_at deletion_at known stale",
    "key_usability": "resource_arn resource_type account_id region name status usable reason key_arn known stale",
    "resource_encryption": "resource_arn resource_type account_id region name role exempt encrypted encrypted_reason "
    "customer_managed customer_managed_reason key_class key_arn known stale",
    "findings": "rule_id title severity family status verdict resource_arn resource_type resource_name account_id "
    "account_name ou_path region key_arn reason owner first_failed last_seen resolved_at reopened age_days since waiver "
    "waived_until",
    "findings_without_history": "rule_id title severity family status verdict resource_arn resource_type resource_name account_id "
    "account_name ou_path region key_arn reason owner waiver waived_until story",
    "finding_episodes": "rule_id resource_arn first_failed_run failures resolved_run is_failing failed_until status_changed_run status",
    "finding_lifecycle": "rule_id resource_arn status first_failed last_seen resolved_at reopened since",
    "rule_results": "rule_id title severity family account_id account_name region pass fail unknown not_applicable waived "
    "since",
    "waivers": "waiver rule_id resource account_id reason ticket owner expires expired include_unknown source waives undecided",
    "owners": "resource_arn account_id owner source",
    "rules": "rule_id title severity family frameworks why fix console cli terraform parameters",
    "key_unknowns": "key_arn account_id region refused last_known denied_resource_actions",
    "customer_keys": KEYS + " refused stale",
    "alias_targets": "alias_arn alias_name account_id region target_key_arn target key_state deletion_date",
    "key_policy_unknowns": "key_arn account_id region analysis_id unread unclear everyone outsiders own_account services stale",
    "vendor_keys": "key_arn account_id region profiles wanted accessible broken over_shared doubt reason multi_region_for",
    "places": "place account_id region outcome exempt cause_text since nights",
    "iam_accounts": "account_id account_name known reason users roles groups",
    "iam_principals": "arn account_id account_name type name path unique_id created_at permissions_boundary_arn "
    "attached_policies inline_policies groups tags trusted_principals trust_policy since",
    "iam_policies": "principal_arn account_id source group_arn policy_arn policy_name default_version policy received "
    "readable",
    "resource_policies": "resource_arn resource_type account_id region name known reason has_policy policy received "
    "principals readable since",
    "resource_principals": "resource_arn account_id region name position statement effect principal principal_type "
    "principal_account party party_name actions not_actions condition_keys since",
    "iam_key_statements": "policy_id kind account_id policy_name owner_arn position allow operations resources inverted "
    "condition_keys broken",
    "secret_readers": "resource_arn account_id region name deletion_at has_policy unjudged denies everyone "
    "possibly_public organization parties outside unclear known",
    "iam_all_keys": "account_id policy_id kind policy_name owner_arn operations decryption decryption_reason everything "
    "everything_reason known",
    "access_verdicts": "analysis_id n path access principal principal_account operations position reason",
    "access_denials": "account_id account_name region role action subject key_arn key_alias cause cause_text fix_in "
    "policy_arn code message since_run since",
    "access_paths": "key_arn path via position principal principal_account access party analysis_id n constraints reason "
    "alternative_paths since_run",
    "key_access": "key_arn key_alias account_id account_name region key_state access principal principal_account party "
    "operations path via position scope needs_iam reason sentence witness alternative_paths since_run since known",
    "key_access_iam": "key_arn account_id access principal operations path via reason sentence",
    "key_policy_problems": "key_arn key_alias account_id account_name region code statement position sentence since",
    "trails": "trail_arn name account_id account_name home_region is_multi_region is_organization logging stopped_at "
    "delivery_error log_validation kms_key kms_key_arn bucket log_group global_events management_events kms_events "
    "kms_excluded kms_network_events selectors known reason since",
    "kms_logging": "account_id account_name region kms_events trails others reason known",
    "framework_controls": "framework framework_title version control title rules rules_in_force status pass fail unknown "
    "not_applicable waived",
    "frameworks": "framework title version source checked controls pass fail unknown not_applicable",
    "vendors": "party access party_accounts key_arn key_alias account_id account_name region key_state principals operations "
    "paths scopes protects protected last_used_at last_use fallback_paths since_run since",
    "vendor_checks": "profile vendor kind about account_id account_name region key_arn key_alias subject verdict severity "
    "reason fix statement evidence deadline required since",
    "changes": "run_id at account_id account_name region key_arn resource_arn subject kind severity sentence before after",
    "coverage": "run_id account_id account_name region service operation action subject key_arn outcome cause cause_text "
    "code message since_run since nights",
}


@pytest.mark.parametrize("view", CONTRACT)
def test_the_columns_of_a_view_are_its_contract(view: str, mart: duckdb.DuckDBPyConnection) -> None:
    """Names and order of a view's columns stay: analysts' queries depend on them."""
    found = [row[0] for row in mart.execute(f"DESCRIBE {view}").fetchall()]
    assert sorted(found) == sorted(CONTRACT[view].split())


def test_every_view_and_column_is_described(ask: Ask) -> None:
    """Each view and each of its columns carries a comment, histories included."""
    silent = ask(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = 'mart' AND schema_name = 'main' AND coalesce(comment, '') = ''"
    )
    assert silent == []
    public = "database_name = 'mart' AND schema_name = 'main' AND NOT internal"
    assert ask(f"SELECT view_name FROM duckdb_views() WHERE {public} AND comment IS NULL") == []
    assert {view.name for view in views()} == set(CONTRACT)
    for view in views():
        assert set(view.columns) == set(CONTRACT[view.name].split())


@pytest.mark.parametrize("view", CONTRACT)
def test_every_view_answers_as_of_any_run(view: str, ask: Ask) -> None:
    """The macro of a view gives for the mart's run what the view gives, and answers for older runs."""
    assert sorted(map(str, ask(f"SELECT * FROM {view}"))) == sorted(map(str, ask(f"SELECT * FROM {view}_as_of(3)")))
    ask(f"SELECT * FROM {view}_as_of(1)")


def test_keys_as_they_were(ask: Ask) -> None:
    """An earlier run's keys have that run's state, names and tags."""
    now = ask("SELECT state, days_to_deletion FROM keys WHERE alias = 'alias/invoices'")
    then = ask("SELECT state, days_to_deletion FROM keys_as_of(2) WHERE alias = 'alias/invoices'")
    assert (now, then) == ([("PendingDeletion", 29)], [("Enabled", None)])
    tags = "SELECT tags['DataTier'] FROM keys{} WHERE alias = 'alias/everywhere'"
    assert (ask(tags.format("")), ask(tags.format("_as_of(2)"))) == ([(None,)], [("database",)])
    assert ask("SELECT count(*) FROM keys_as_of(1) WHERE account_id = ?", PAYMENTS) == [(0,)]


def test_a_key_with_everything(ask: Ask) -> None:
    """A key's row joins its facets."""
    row = ask(
        "SELECT account_name, aliases, grants, dependent_resources, tags, rotation_status, rotation_period_days, policy_known, "
        "delegates_to_iam, freshness, unknown, first_seen_run, last_seen_run, age_days FROM keys WHERE alias = 'alias/invoices'"
    )
    assert row == [("Shop", ["alias/invoices"], 1, 2, {}, "off", None, True, True, "yes", [], 1, 3, 1041)]


def test_unknown_is_not_empty(ask: Ask) -> None:
    """What was refused for a key is NULL and named; it is not an empty list, zero or false."""
    row = ask(
        "SELECT grants, tags, rotation_status, policy_known, delegates_to_iam, freshness, unknown FROM keys "
        "WHERE account_id = ? AND key_id LIKE '%11'",
        DATA,
    )
    refused = ["kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListResourceTags"]
    assert row == [(None, None, None, False, None, "last known", refused)]


def test_an_unreadable_policy_delegates_unknown(ask: Ask) -> None:
    """A policy that cannot be read is kept as text and decides nothing."""
    assert ask("SELECT policy_known, delegates_to_iam FROM keys WHERE alias = 'alias/archive/2019'") == [(True, None)]
    assert ask("SELECT policy, statements FROM key_policies WHERE NOT readable") == [("this is not JSON", 0)]


def test_principals_and_parties(ask: Ask) -> None:
    """Who is named in policies and grants, with type and relation to the key's account and organization."""
    found = {
        (row[0], row[1], row[2], row[3], row[4])
        for row in ask("SELECT source, principal, principal_type, party, party_name FROM key_principals")
    }
    assert {
        ("policy", VENDOR, "account", "known party", "Checkmarx"),
        ("policy", "*", "public", "public", None),
        ("policy", "*", "account", "own account", "Shop"),
        ("policy", "AROAEXAMPLEEXAMPLE123", "deleted", "deleted principal", None),
        ("policy", "logs.amazonaws.com", "service", "aws service", "logs.amazonaws.com"),
        ("grant", "arn:aws:iam::999900001111:root", "account", "outside account", None),
        ("grant", "dynamodb.eu-west-1.amazonaws.com", "service", "aws service", "dynamodb.eu-west-1.amazonaws.com"),
        ("grant", f"arn:aws:sts::{SHOP}:assumed-role/aws:ec2-infrastructure/i-0abc", "session", "own account", "Shop"),
    } <= found


def test_usage_tells_every_class_and_the_unknown(ask: Ask) -> None:
    """Each class of key appears, and a resource whose key was refused has one row that says why."""
    classes = {row[0] for row in ask("SELECT DISTINCT key_class FROM resource_keys")}
    assert classes == {"customer", "aws_owned", "none", "not_crawled", "dangling", "unknown"}
    assert ask("SELECT resource_name, role, reason, freshness FROM resource_keys WHERE key_class = 'unknown'") == [
        ("shop-hidden", "unknown", "a policy explicitly denies the request (s3:GetBucketEncryption)", "yes")
    ]
    state = ask(
        "SELECT key_alias, key_account_id, key_state, service FROM resource_keys WHERE resource_name = 'archive'"
    )
    assert state == [("alias/archive/2019", SHOP, "Disabled", "rds")]


def test_coverage_has_scopes_and_gaps_with_their_age(ask: Ask) -> None:
    """Failed scopes and open gaps are told with cause, first run and number of nights."""
    scope = ask(
        "SELECT outcome, since_run, consecutive_runs FROM coverage WHERE account_id = ? AND operation IS NULL", LOCKED
    )
    assert scope == [("failed", 1, 3)]
    gap = ask("SELECT cause, cause_text, message, consecutive_runs FROM coverage WHERE action = 'kms:GetKeyPolicy'")
    cause = "the key policy neither delegates to IAM nor names the crawler's role"
    assert gap == [("key_policy", cause, HOSTILE, 3)]
    assert ask("SELECT coverage FROM accounts ORDER BY account_id") == [
        ("complete",),
        ("partial",),
        ("complete",),
        ("failed",),
        ("partial",),
        ("suspended",),
    ]


def test_account_ids_keep_their_zeros_and_times_are_utc(ask: Ask) -> None:
    """Ids are texts, and instants are UTC without a zone."""
    since = dt.datetime(2026, 11, 21, 3, 0)  # noqa: DTZ001 - the views' times have no zone
    assert ask("SELECT account_id, since FROM accounts WHERE name = 'Payments'") == [(PAYMENTS, since)]


def test_history_keeps_every_version(ask: Ask) -> None:
    """Histories show what was, from which run to which."""
    rows: list[Any] = ask(
        "SELECT state, valid_from, valid_to, valid_to_at IS NULL FROM keys_history WHERE description = 'invoices' "
        "ORDER BY valid_from"
    )
    assert rows == [("Enabled", 1, 3, False), ("PendingDeletion", 3, None, True)]


@pytest.mark.parametrize("view", views(), ids=lambda view: view.name)
def test_no_macro_has_a_with(view: View) -> None:
    """The macros are written without WITH, which DuckDB 1.4 cannot read in a macro that DuckDB 2 has written."""
    assert "WITH " not in inlined(view.select)
    assert " AS (\n" not in inlined(view.select)
