-- Keys with policy, grants, tags and dependents; the keys in $first come first, in that order.
WITH page AS (
    SELECT *, count(*) OVER () AS total,
        coalesce(list_position($first, key_arn), 2147483647) AS sort_order
    FROM keys
    ORDER BY sort_order, manager IS NULL DESC, manager = 'CUSTOMER' DESC, state IS NOT DISTINCT FROM 'Enabled',
        account_name, account_id, region, alias NULLS LAST, key_arn
    LIMIT $limit
),
policy_statement AS (
    SELECT key_arn, list({
        'position': statement_index, 'sid': sid, 'effect': effect, 'principal_kind': principal_kind,
        'principals': principals, 'actions': actions, 'not_actions': not_actions, 'conditions': conditions
    } ORDER BY statement_index) AS statements
    FROM key_policy_statements SEMI JOIN page USING (key_arn)
    GROUP BY key_arn
),
unreadable AS (
    SELECT key_arn, any_value(received) AS received
    FROM key_policies SEMI JOIN page USING (key_arn)
    WHERE NOT readable
    GROUP BY key_arn
),
granted AS (
    SELECT key_arn, list({
        'grant_id': grant_id, 'name': name, 'grantee': grantee, 'operations': operations, 'constraints': constraints,
        'retiring': coalesce(retiring_principal, retiring_service_principal), 'created_at': created_at
    } ORDER BY created_at NULLS FIRST, grant_id)[1:$nested] AS grants
    FROM grants SEMI JOIN page USING (key_arn)
    GROUP BY key_arn
),
tagged AS (
    SELECT key_arn, list({'key': tag_key, 'value': tag_value} ORDER BY tag_key) AS tags
    FROM key_tags SEMI JOIN page USING (key_arn)
    GROUP BY key_arn
),
used AS (
    SELECT key_arn, list({
        'name': coalesce(resource_name, resource_arn), 'service': service, 'role': role,
        'account_id': account_id, 'account_name': account_name, 'region': region
    } ORDER BY service, resource_name, resource_arn, role)[1:$nested] AS uses
    FROM resource_keys SEMI JOIN page USING (key_arn)
    GROUP BY key_arn
),
gap_age AS (
    SELECT key_arn, max(consecutive_runs) AS consecutive_runs
    FROM coverage
    WHERE outcome = 'gap' AND key_arn IS NOT NULL AND operation <> 'GetKeyLastUsage'
    GROUP BY key_arn
),
confirmed AS (
    SELECT run_id, row_number() OVER (ORDER BY run_id DESC) - 1 AS consecutive_runs FROM runs
)
SELECT page.*,
    left(md5(page.key_arn), 12) AS anchor,
    coalesce(policy_statement.statements, []) AS policy_statements,
    unreadable.received AS unreadable_policy,
    coalesce(granted.grants, []) AS grant_list,
    coalesce(tagged.tags, []) AS tag_list,
    coalesce(used.uses, []) AS uses,
    coalesce(gap_age.consecutive_runs, confirmed.consecutive_runs) AS consecutive_runs
FROM page
LEFT JOIN policy_statement USING (key_arn)
LEFT JOIN unreadable USING (key_arn)
LEFT JOIN granted USING (key_arn)
LEFT JOIN tagged USING (key_arn)
LEFT JOIN used USING (key_arn)
LEFT JOIN gap_age USING (key_arn)
LEFT JOIN confirmed ON confirmed.run_id = page.last_seen_run
ORDER BY page.sort_order, page.manager IS NULL DESC, page.manager = 'CUSTOMER' DESC,
    page.state IS NOT DISTINCT FROM 'Enabled', page.account_name, page.account_id, page.region,
    page.alias NULLS LAST, page.key_arn
