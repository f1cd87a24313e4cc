"""The views of the mart over the sample ledger."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import pytest

from reports.mart.view_loader import views
from tests.reports.conftest import RunQuery
from tests.reports.sample_ledger import DATA, HOSTILE, LOCKED, PAYMENTS, SHOP, VENDOR

KEYS = (
    "key_arn key_id account_id account_name region alias aliases manager state enabled description key_usage "
    "key_spec origin created_at age_days deletion_date days_to_deletion pending_window_days "
    "material_expires_at expiration_model multi_region multi_region_type primary_arn replica_arns "
    "custom_key_store_id rotation_status rotation_reason rotation_period_days next_rotation_at last_rotated_at "
    "last_used_at last_used_operation last_use last_use_reason last_use_polled_at last_use_reported_at "
    "last_use_tracked_since grants dependent_resources tags policy_known delegates_to_iam freshness "
    "denied_actions failure_causes first_seen_run current_version_since last_seen_run"
)
CONTRACT = {
    "runs": "run_id started_at finished_at status version caller_arn partition organization_id "
    "management_account_id accounts scopes calls gaps message only_accounts only_regions",
    "accounts": "account_id name email state ou_path ou_ids joined_at is_management selection coverage since",
    "key_tags": "key_arn account_id region tag_key tag_value since",
    "resource_tags": "resource_arn account_id region tag_key tag_value since",
    "aliases": "alias_arn alias_name account_id account_name region target_key_arn predefined created_at updated_at "
    "since",
    "key_policies": "key_arn account_id region policy received statements readable since",
    "key_policy_statements": "key_arn account_id region statement_index sid effect principal_kind principals actions not_actions "
    "resources has_resource conditions since",
    "internal.account_names": "account_id name in_organization is_party",
    "key_principals": "key_arn account_id region source source_id effect principal principal_type principal_account party "
    "party_name actions condition_keys since",
    "internal.principal_uses": "policy_hash account_id source statement_index effect principal principal_type "
    "principal_account party party_name keys since",
    "grants": "key_arn account_id account_name region grant_id name grantee grantee_principal "
    "grantee_service_principal retiring_principal retiring_service_principal issuing_account operations "
    "for_service constraints created_at since",
    "key_rotations": "key_arn rotated_at rotation_type key_material_id key_material_state",
    "custom_key_stores": "account_id region store_id name store_type connection_state connection_error cloud_hsm_cluster_id "
    "xks_connectivity created_at",
    "internal.resource_reads": "resource_arn freshness key_freshness key_unknown_reason key_unknown_since",
    "resources": "resource_arn resource_type service account_id account_name region name status encryption created_at "
    "deletion_at details freshness since",
    "keys": KEYS,
    "resource_replicas": "resource_arn account_id region name replica_region status status_message raw_key since",
    "internal.latest_run": "run_id started_at",
    "internal.unread_grants": "resource_arn account_id region key_arn verdict",
    "internal.customer_grants": "key_arn account_id account_name region grant_id name grantee grantee_principal "
    "grantee_service_principal retiring_principal retiring_service_principal issuing_account operations "
    "for_service constraints created_at since resource_arn",
    "internal.named_keys": KEYS,
    "internal.customer_keys": f"{KEYS} stale_note rotation_note tags_note",
    "resource_keys": "resource_arn resource_type service resource_name account_id account_name region role position "
    "raw_value format key_arn key_alias key_account_id key_state key_class reason freshness since",
    "internal.secrets": "resource_arn account_id region name not_applicable_reason owner_fix rotation_interval "
    "primary_region details created_at deletion_at freshness stale_note",
    "internal.finding_episodes": "rule_id resource_arn first_failed_run failure_count resolved_run is_failing failed_until "
    "status_changed_run status",
    "key_usability": "resource_arn resource_type account_id region name status usability reason key_arn freshness "
    "stale_note",
    "owners": "resource_arn account_id owner source",
    "resource_encryption": "resource_arn resource_type account_id region name role not_applicable_reason encrypted "
    "encrypted_reason customer_managed customer_managed_reason key_class key_arn freshness stale_note",
    "rules": "rule_id title severity family frameworks why fix console cli terraform parameters",
    "waivers": "waiver rule_id resource account_id tag description reason ticket owner expires expired include_unknown source "
    "waived_count unknown_count",
    "finding_lifecycle": "rule_id resource_arn status first_failed last_seen resolved_at reopened since",
    "internal.findings_without_history": "rule_id title severity family status unwaived_status "
    "resource_arn resource_type resource_name "
    "account_id account_name ou_path region key_arn reason owner waiver waived_until",
    "rule_results": "rule_id title severity family account_id account_name region passed failed unknown not_applicable "
    "waived since",
    "changes": "run_id occurred_at account_id account_name region key_arn resource_arn subject event_type severity "
    "message before after",
    "findings": "rule_id title severity family status unwaived_status resource_arn resource_type resource_name "
    "account_id account_name ou_path region key_arn reason owner first_failed last_seen resolved_at "
    "reopened age_days since waiver waived_until",
    "coverage": "run_id account_id account_name region service operation action subject key_arn outcome cause "
    "cause_text code message since_run since consecutive_runs read_run_id",
    "run_coverage": "run_id account_regions complete partial failed coverage_percent",
    "incomplete_account_regions": "account_id account_name region outcome gaps actions causes since_run since "
    "consecutive_runs read_run_id",
    "account_regions": "account_region account_id region outcome skip_reason cause_text since consecutive_runs",
    "internal.alias_targets": "alias_arn alias_name account_id region target_key_arn target key_state deletion_date",
    "iam_accounts": "account_id account_name freshness reason users roles groups",
    "internal.key_listings": "account_id region keys_unlisted aliases_unlisted keys_listed",
    "internal.pending_deletions": "key_arn in_use is_unused unknown_reason message",
    "internal.key_unknowns": "key_arn account_id region denied_actions last_known unread_resources unread_uses",
    "iam_principals": "arn account_id account_name type name path unique_id created_at permissions_boundary_arn "
    "attached_policies inline_policies groups tags trusted_principals trust_policy since",
    "internal.applied_policies": "principal_arn account_id source group_arn policy_arn policy_name default_version policy_hash",
    "iam_policies": "principal_arn account_id source group_arn policy_arn policy_name default_version policy received "
    "readable",
    "resource_policies": "resource_arn resource_type account_id region name freshness reason has_policy policy received "
    "principals readable since",
    "resource_principals": "resource_arn account_id region name statement_index statement effect principal principal_type "
    "principal_account party party_name actions not_actions condition_keys since",
    "trails": "trail_arn name account_id account_name home_region is_multi_region is_organization logging "
    "stopped_at delivery_error log_validation kms_key kms_key_arn bucket log_group global_events "
    "management_events kms_events kms_excluded kms_network_events selectors freshness reason since",
    "internal.iam_key_statements": "policy_id policy_type account_id policy_name owner_arn statement_index "
    "allow operations resources "
    "not_resource condition_keys parse_error",
    "kms_logging": "account_id account_name region kms_events trails other_trails reason freshness",
    "internal.iam_all_keys": "account_id policy_id policy_type policy_name owner_arn operations allows_decryption "
    "decryption_reason allows_everything everything_reason freshness",
    "internal.secret_readers": "resource_arn account_id region name deletion_at has_policy unevaluated_reason denies is_public "
    "possibly_public organization parties external unknown freshness",
    "vendor_checks": "profile vendor subject_type check_name account_id account_name region key_arn key_alias subject "
    "result severity reason fix statement evidence deadline required since",
    "internal.access_paths": "key_arn path source_id statement_index principal principal_account "
    "access party analysis_id ordinal "
    "constraints reason alternative_paths since_run",
    "internal.key_access": "key_arn key_alias account_id account_name region key_state access principal principal_account party "
    "operations path source_id statement_index conditions needs_iam reason message witness "
    "alternative_paths since_run since freshness",
    "key_policy_problems": "key_arn key_alias account_id account_name region code statement statement_index message since",
    "vendors": "party access party_accounts key_arn key_alias account_id account_name region key_state principals "
    "operations paths conditions dependent_count dependents last_used_at last_use fallback_paths "
    "since_run since",
    "internal.key_access_iam": "key_arn account_id access principal operations path source_id reason message",
    "internal.access_verdicts": "analysis_id ordinal path access principal principal_account operations statement_index reason",
    "internal.key_policy_unknowns": "key_arn account_id region analysis_id policy_unknown_reason statements_unknown_reason "
    "everyone_unknown_reason external_unknown_reason own_account_unknown_reason services_unknown_reason "
    "stale_note",
    "internal.vendor_keys": "key_arn account_id region profiles expected accessible failing excess unknown_reason severity "
    "excess_severity reason multi_region_for",
    "effective_access": "key_arn key_alias account_id account_name region key_state access principal principal_account party "
    "operations path source_id statement_index conditions needs_iam reason message witness "
    "alternative_paths since_run since freshness",
    "access_denials": "account_id account_name region role action subject key_arn key_alias cause cause_text fix_in "
    "policy_arn code message since_run since",
    "framework_controls": "framework framework_title version control title rules rules_in_force status passed failed unknown "
    "not_applicable waived",
    "frameworks": "framework title version source checked controls passed failed unknown not_applicable",
    "situation_findings": "situation_id kind cause parties rule_id title severity status resource_arn resource_name account_id "
    "account_name region key_arn owner reason",
    "situations": "situation_id kind cause severity deadline affected names key_arn key_alias key_state grants parties rule_id "
    "account_ids account_name region owners failed unknown rules",
    "internal.situation_details": "situation_id kind cause severity deadline affected names key_arn key_alias key_state grants "
    "parties rule_id account_ids account_name region owners failed unknown rules evidence main noun resource_arns",
}


@pytest.mark.parametrize("view", CONTRACT)
def test_the_columns_of_a_view_are_its_contract(view: str, mart: duckdb.DuckDBPyConnection) -> None:
    """The columns of a view are stable: analysts' queries depend on them."""
    found = [row[0] for row in mart.execute(f"DESCRIBE {view}").fetchall()]
    assert sorted(found) == sorted(CONTRACT[view].split())


def test_every_view_and_column_is_described(run_query: RunQuery) -> None:
    """Each view and each of its columns carries a comment, histories included."""
    silent = run_query(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = 'mart' AND schema_name = 'main' AND coalesce(comment, '') = ''"
    )
    assert silent == []
    public = "database_name = 'mart' AND schema_name = 'main' AND NOT internal"
    assert run_query(f"SELECT view_name FROM duckdb_views() WHERE {public} AND comment IS NULL") == []
    assert {view.qualified for view in views()} == set(CONTRACT)
    for view in views():
        assert set(view.columns) == set(CONTRACT[view.qualified].split())


@pytest.mark.parametrize("view", CONTRACT)
def test_every_view_answers_as_of_any_run(view: str, run_query: RunQuery) -> None:
    """For the mart's run, the macro of a view returns the rows of the view; it also works for older runs."""
    assert sorted(map(str, run_query(f"SELECT * FROM {view}"))) == sorted(
        map(str, run_query(f"SELECT * FROM {view}_as_of(3)"))
    )
    run_query(f"SELECT * FROM {view}_as_of(1)")


def test_keys_as_they_were(run_query: RunQuery) -> None:
    """An earlier run's keys have that run's state, names and tags."""
    now = run_query("SELECT state, days_to_deletion FROM keys WHERE alias = 'alias/invoices'")
    then = run_query("SELECT state, days_to_deletion FROM keys_as_of(2) WHERE alias = 'alias/invoices'")
    assert (now, then) == ([("PendingDeletion", 29)], [("Enabled", None)])
    tags = "SELECT tags['DataTier'] FROM keys{} WHERE alias = 'alias/everywhere'"
    assert (run_query(tags.format("")), run_query(tags.format("_as_of(2)"))) == ([(None,)], [("database",)])
    assert run_query("SELECT count(*) FROM keys_as_of(1) WHERE account_id = ?", PAYMENTS) == [(0,)]


def test_a_key_with_everything(run_query: RunQuery) -> None:
    """The row of a key joins all its facts."""
    row = run_query(
        "SELECT account_name, aliases, grants, dependent_resources, tags, rotation_status, rotation_period_days, policy_known, "
        "delegates_to_iam, freshness, denied_actions, first_seen_run, last_seen_run, age_days "
        "FROM keys WHERE alias = 'alias/invoices'"
    )
    assert row == [("Shop", ["alias/invoices"], 1, 2, {}, "disabled", None, True, True, "current", [], 1, 3, 1041)]


def test_unknown_is_not_empty(run_query: RunQuery) -> None:
    """Denied data of a key is NULL and listed in denied_actions; it is not an empty list, zero or false."""
    row = run_query(
        "SELECT grants, tags, rotation_status, policy_known, delegates_to_iam, freshness, denied_actions FROM keys "
        "WHERE account_id = ? AND key_id LIKE '%11'",
        DATA,
    )
    denied = ["kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListResourceTags"]
    assert row == [(None, None, None, False, None, "current", denied)]


def test_an_unreadable_policy_delegates_unknown(run_query: RunQuery) -> None:
    """A policy that cannot be parsed is kept as text; what it delegates is unknown."""
    assert run_query("SELECT policy_known, delegates_to_iam FROM keys WHERE alias = 'alias/archive/2019'") == [
        (True, None)
    ]
    assert run_query("SELECT policy, statements FROM key_policies WHERE NOT readable") == [("this is not JSON", 0)]


def test_principals_and_parties(run_query: RunQuery) -> None:
    """The principals named in policies and grants, with type and party."""
    found = {
        (row[0], row[1], row[2], row[3], row[4])
        for row in run_query("SELECT source, principal, principal_type, party, party_name FROM key_principals")
    }
    assert {
        ("policy", VENDOR, "account", "known_party", "Checkmarx"),
        ("policy", "*", "public", "public", None),
        ("policy", "*", "account", "own_account", "Shop"),
        ("policy", "AROAEXAMPLEEXAMPLE123", "deleted", "deleted_principal", None),
        ("policy", "logs.amazonaws.com", "service", "aws_service", "logs.amazonaws.com"),
        ("grant", "arn:aws:iam::999900001111:root", "account", "external_account", None),
        ("grant", "dynamodb.eu-west-1.amazonaws.com", "service", "aws_service", "dynamodb.eu-west-1.amazonaws.com"),
        ("grant", f"arn:aws:sts::{SHOP}:assumed-role/aws:ec2-infrastructure/i-0abc", "session", "own_account", "Shop"),
    } <= found


def test_resource_keys_have_every_class_and_the_unknown(run_query: RunQuery) -> None:
    """Every key class appears, and a resource whose key is unknown has one row with the reason."""
    classes = {row[0] for row in run_query("SELECT DISTINCT key_class FROM resource_keys")}
    assert classes == {"customer", "aws_owned", "none", "not_crawled", "dangling", "unknown"}
    assert run_query(
        "SELECT resource_name, role, reason, freshness FROM resource_keys WHERE key_class = 'unknown'"
    ) == [
        ("shop-hidden", "unknown", "a policy explicitly denies the request (s3:GetEncryptionConfiguration)", "current")
    ]
    state = run_query(
        "SELECT key_alias, key_account_id, key_state, service FROM resource_keys WHERE resource_name = 'archive'"
    )
    assert state == [("alias/archive/2019", SHOP, "Disabled", "rds")]


def test_coverage_has_scopes_and_gaps_with_their_age(run_query: RunQuery) -> None:
    """Failed scopes and open gaps have a cause, the first run and the number of runs."""
    scope = run_query(
        "SELECT outcome, since_run, consecutive_runs FROM coverage WHERE account_id = ? AND operation IS NULL", LOCKED
    )
    assert scope == [("failed", 1, 3)]
    gap = run_query(
        "SELECT cause, cause_text, message, consecutive_runs FROM coverage WHERE action = 'kms:GetKeyPolicy'"
    )
    cause = "the key policy neither delegates the request to IAM nor allows it to the crawler's role"
    assert gap == [("key_policy", cause, HOSTILE, 3)]
    assert run_query("SELECT coverage FROM accounts ORDER BY account_id") == [
        ("complete",),
        ("partial",),
        ("complete",),
        ("failed",),
        ("partial",),
        ("suspended",),
    ]


def test_account_ids_keep_their_zeros_and_times_are_utc(run_query: RunQuery) -> None:
    """Ids are texts, and instants are UTC without a zone."""
    since = dt.datetime(2026, 11, 21, 3, 0)  # noqa: DTZ001 - the views' times have no zone
    assert run_query("SELECT account_id, since FROM accounts WHERE name = 'Payments'") == [(PAYMENTS, since)]


def test_history_keeps_every_version(run_query: RunQuery) -> None:
    """Histories have every version, with its first run and the run that closed it."""
    rows: list[Any] = run_query(
        "SELECT state, valid_from, valid_to, valid_to_at IS NULL FROM keys_history WHERE description = 'invoices' "
        "ORDER BY valid_from"
    )
    assert rows == [("Enabled", 1, 3, False), ("PendingDeletion", 3, None, True)]
