-- Keys with policy, grants, tags and dependents; the keys in $first come first, in that order.
WITH chosen AS (
    SELECT key_arn, coalesce(list_position($first, key_arn), 2147483647) AS sort_order
    FROM keys
    ORDER BY sort_order, manager IS NULL DESC, manager = 'CUSTOMER' DESC, state IS NOT DISTINCT FROM 'Enabled',
        account_name, account_id, region, alias NULLS LAST, key_arn
    LIMIT $limit
),
-- Only these with all columns, which would take seconds to sort for a million keys.
listed AS (
    SELECT k.*, c.sort_order FROM keys AS k JOIN chosen AS c USING (key_arn)
),
policy AS (
    SELECT key_arn, list([
        coalesce(sid, '#' || statement_index), coalesce(effect, 'none stated'),
        CASE WHEN principal_kind = 'NotPrincipal' THEN 'everyone except' || chr(10) ELSE '' END
            || coalesce(nullif(array_to_string(principals, chr(10)), ''), 'none'),
        CASE WHEN not_actions THEN 'all except ' ELSE '' END || coalesce(nullif(array_to_string(actions, ', '), ''), 'none'),
        conditions
    ] ORDER BY statement_index) AS statements
    FROM key_policy_statements SEMI JOIN listed USING (key_arn)
    GROUP BY key_arn
),
unreadable AS (
    SELECT key_arn, any_value(received) AS received
    FROM key_policies SEMI JOIN listed USING (key_arn)
    WHERE NOT readable
    GROUP BY key_arn
),
-- Not the view grants, which joins the millions of all keys first.
granted AS (
    SELECT key_arn, count(*) AS known, list([
        coalesce(name || chr(10), '') || grant_id,
        coalesce(grantee_service_principal, grantee_principal, 'unknown')
            || coalesce(chr(10) || 'may be retired by ' || coalesce(retiring_principal, retiring_service_principal), ''),
        array_to_string(CAST(CAST(operations AS JSON) AS VARCHAR[]), ', '), constraints
    ] ORDER BY created_at NULLS FIRST, grant_id)[1:$nested] AS grants
    FROM internal.key_grant AS g SEMI JOIN listed USING (key_arn)
    WHERE internal.known(g.valid_from, g.valid_to, internal.view_run())
    GROUP BY key_arn
),
tagged AS (
    SELECT key_arn, string_agg(tag_key || ' = ' || tag_value, '; ' ORDER BY tag_key) AS tags, count(*) AS amount
    FROM key_tags SEMI JOIN listed USING (key_arn)
    GROUP BY key_arn
),
used AS (
    SELECT u.key_arn, count(*) AS known, list([
        coalesce($services[service], service), coalesce(resource_name, resource_arn),
        role || CASE WHEN u.account_id <> k.account_id THEN ', in ' || coalesce(u.account_name || ' ', '') || u.account_id ELSE '' END
    ] ORDER BY service, resource_name, resource_arn, role)[1:$nested] AS uses
    FROM resource_keys AS u
    JOIN listed AS k USING (key_arn)
    GROUP BY u.key_arn
),
gap_age AS (
    SELECT key_arn, max(consecutive_runs) AS runs
    FROM coverage
    WHERE outcome = 'gap' AND key_arn IS NOT NULL AND operation <> 'GetKeyLastUsage'
    GROUP BY key_arn
),
confirmed AS (
    SELECT run_id, row_number() OVER (ORDER BY run_id DESC) - 1 AS runs FROM runs
)
SELECT
    left(md5(k.key_arn), 12) AS anchor, k.key_arn,
    coalesce(k.alias, k.key_id) AS name,
    CASE WHEN len(k.aliases) > 1 THEN 'and ' || (len(k.aliases) - 1) || ' more' END AS more_aliases,
    CASE WHEN k.alias IS NULL THEN 'no alias' ELSE k.key_id END AS key_id,
    CASE WHEN k.freshness = 'stale' THEN
        'last known' || coalesce(', ' || coalesce(gap_age.runs, confirmed.runs)
            || CASE coalesce(gap_age.runs, confirmed.runs) WHEN 1 THEN ' run old' ELSE ' runs old' END, '')
    END AS stale,
    coalesce(k.account_name, k.account_id) AS account, k.account_id, k.region,
    k.manager, coalesce(k.key_spec, 'spec unknown') AS key_spec,
    CASE WHEN k.multi_region THEN 'multi-Region ' || lower(coalesce(k.multi_region_type, '')) END AS multi_region,
    coalesce(k.state, 'unknown') AS state,
    internal.days_from_now(k.days_to_deletion) AS deletion,
    k.rotation_status AS rotation,
    CASE WHEN k.rotation_status = 'enabled' THEN 'every ' || k.rotation_period_days || ' days' END AS rotation_period,
    o.owner,
    k.dependent_resources AS dependents, CASE WHEN k.dependent_resources > 0 THEN k.key_arn END AS used_arn,
    k.grants, k.age_days,
    regexp_replace(CASE
        WHEN unreadable.received IS NOT NULL THEN 'Policy not parseable'
        WHEN k.policy_known THEN coalesce(len(policy.statements), 0) || ' policy statements'
        ELSE 'Policy unknown'
    END || CASE WHEN k.grants IS NULL THEN ', grants unknown' ELSE ', ' || k.grants || ' grants' END
        || CASE WHEN k.tags IS NULL THEN ', tags unknown' ELSE ', ' || coalesce(tagged.amount, 0) || ' tags' END
        || CASE WHEN len(k.denied_actions) > 0 THEN '; ' || len(k.denied_actions) || ' responses missing'
            WHEN k.manager = 'AWS' AND k.tags IS NULL THEN ': not requested' ELSE '' END, '\b1 (policy statement|grant|tag|response)s', '1 \1', 'g') AS summary,
    list_filter([
        ['ARN', k.key_arn],
        ['Description', nullif(k.description, '')],
        ['Aliases', array_to_string(k.aliases, ', ')],
        ['Use and origin', coalesce(k.key_usage, 'use unknown') || ', ' || coalesce(k.origin, 'origin unknown')
            || coalesce(', key store ' || k.custom_key_store_id, '') || coalesce('; created ' || strftime(k.created_at, '%Y-%m-%d'), '')],
        ['Deletion', 'on ' || strftime(k.deletion_date, '%Y-%m-%d %H:%M UTC')],
        ['Waiting period', k.pending_window_days || ' days, after the last replica is deleted'],
        ['Key material', 'expires ' || strftime(k.material_expires_at, '%Y-%m-%d %H:%M UTC')],
        ['Multi-Region', CASE WHEN k.multi_region THEN array_to_string(list_concat(
            [coalesce('primary ' || k.primary_arn, 'primary unknown')], list_transform(coalesce(k.replica_arns, []), lambda x: 'replica ' || x)
        ), chr(10)) END],
        ['Rotation', coalesce(k.rotation_status, 'unknown').replace('_', ' ') || coalesce(': ' || k.rotation_reason, '')
            || coalesce(', next on ' || strftime(k.next_rotation_at, '%Y-%m-%d'), '')
            || coalesce('; last rotated ' || strftime(k.last_rotated_at, '%Y-%m-%d'), '')],
        ['Tags', CASE WHEN k.tags IS NULL THEN 'unknown' || CASE WHEN k.manager = 'AWS' AND coalesce(len(k.denied_actions), 0) = 0
            THEN ': not requested for AWS managed keys' ELSE '' END ELSE coalesce(tagged.tags, 'none') END],
        ['Unknown', nullif(array_to_string(k.denied_actions, ', '), '') || '; the gaps state why']
    ], lambda x: x[2] IS NOT NULL) AS facts,
    policy.statements AS policy,
    CASE
        WHEN k.delegates_to_iam IS FALSE AND policy.statements IS NOT NULL
            THEN 'The policy does not delegate to IAM policies of the account.'
        WHEN unreadable.received IS NOT NULL THEN 'The policy could not be parsed.'
        WHEN policy.statements IS NOT NULL THEN NULL
        WHEN k.policy_known THEN 'The policy has no statements.'
        ELSE 'unknown' || CASE WHEN k.manager = 'AWS' AND coalesce(len(k.denied_actions), 0) = 0
            THEN ': not requested for AWS managed keys' ELSE '' END
    END AS policy_note,
    unreadable.received AS unreadable_policy,
    granted.grants AS grant_list,
    CASE
        WHEN k.grants IS NULL AND granted.grants IS NULL THEN 'unknown' || CASE WHEN k.manager = 'AWS'
            AND coalesce(len(k.denied_actions), 0) = 0 THEN ': not requested for AWS managed keys' ELSE '' END
        WHEN granted.grants IS NULL THEN 'None.'
    END AS grants_note,
    nullif(greatest(granted.known - $nested, 0), 0) AS grants_more,
    used.uses,
    nullif(greatest(used.known - $nested, 0), 0) AS uses_more,
    CASE WHEN used.uses IS NULL THEN 'No resource is known to use it' || $unread || '.' END AS uses_note,
    (SELECT count(*) FROM keys) AS total
FROM listed AS k
LEFT JOIN policy USING (key_arn)
LEFT JOIN unreadable USING (key_arn)
LEFT JOIN granted USING (key_arn)
LEFT JOIN tagged USING (key_arn)
LEFT JOIN used USING (key_arn)
LEFT JOIN gap_age USING (key_arn)
LEFT JOIN owners AS o ON o.resource_arn = k.key_arn
LEFT JOIN confirmed ON confirmed.run_id = k.last_seen_run
ORDER BY k.sort_order, k.manager IS NULL DESC, k.manager = 'CUSTOMER' DESC, k.state IS NOT DISTINCT FROM 'Enabled',
    k.account_name, k.account_id, k.region, k.alias NULLS LAST, k.key_arn
