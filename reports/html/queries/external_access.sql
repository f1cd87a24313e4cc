-- The parties outside the organization that have access to keys, with what the keys protect; unknown parties first.
WITH path AS (
    SELECT CASE WHEN access IN ('public', 'public_via_service') THEN 'Everyone' ELSE coalesce(party, principal_account, principal) END AS party,
        CASE access WHEN 'vendor' THEN 'known_party' WHEN 'external' THEN 'external_account' ELSE 'public' END AS kind,
        principal_account, key_arn, coalesce(key_alias, key_arn) AS key_name, coalesce(account_name, account_id) || ', ' || region AS place,
        operations, path, since, since_run
    FROM effective_access
    WHERE path <> 'iam' AND internal.from_outside(access)
),
path_key AS (
    SELECT DISTINCT party, kind, key_arn FROM path
),
used AS (
    SELECT party, kind, list_sort(list(DISTINCT principal_account) FILTER (principal_account IS NOT NULL)) AS accounts,
        -- What reads data, what gives access to others, and what destroys keys comes first.
        list_sort(list_transform(list_distinct(flatten(list(DISTINCT operations))), lambda operation: {
            'rank': coalesce(list_position(['kms:Decrypt', 'kms:CreateGrant', 'kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion',
                'kms:DisableKey', 'kms:Sign', 'kms:Encrypt', 'kms:GenerateDataKey'], operation), 99), 'operation': operation
        })) AS ranked,
        list_sort(list(DISTINCT path), 'DESC') AS paths, min(since) AS since, min(since_run) AS since_run
    FROM path
    GROUP BY party, kind
),
listed AS (
    SELECT u.*, k.key_count, k.first_keys, count(*) OVER () AS total
    FROM used AS u
    JOIN (
        SELECT party, kind, count(*) AS key_count, min(key_arn, $nested) AS first_keys FROM path_key GROUP BY party, kind
    ) AS k USING (party, kind)
    ORDER BY kind = 'known_party', kind, key_count DESC, party
    LIMIT $limit
),
key AS (
    SELECT party, kind, list([key_name, key_arn, place, operations] ORDER BY key_arn) AS key_list
    FROM (
        SELECT party, kind, key_arn, any_value(key_name) AS key_name, any_value(place) AS place,
            array_to_string(list_sort(list_distinct(flatten(list(operations)))), ', ') AS operations
        FROM path SEMI JOIN (SELECT party, kind, unnest(first_keys) AS key_arn FROM listed) AS f USING (party, kind, key_arn)
        GROUP BY party, kind, key_arn
    )
    GROUP BY party, kind
),
data AS (
    SELECT party, kind, string_agg(resources || ' ' || coalesce($services[service], service), ', ' ORDER BY resources DESC, service) AS data
    FROM (
        SELECT party, kind, service, count(DISTINCT resource_arn) AS resources
        FROM path_key SEMI JOIN listed USING (party, kind) JOIN resource_keys USING (key_arn)
        GROUP BY party, kind, service
    )
    GROUP BY party, kind
),
agreed AS (
    SELECT vendor AS party, count(*) FILTER (WHERE result IN ('over_shared', 'wrong')) AS deviations,
        count(*) FILTER (WHERE result IN ('broken', 'blocked_by_policy')) AS unmet,
        count(*) FILTER (WHERE result = 'unknown') AS unknown
    FROM vendor_checks
    WHERE subject_type <> 'profile'
    GROUP BY vendor
)
SELECT l.party, nullif(array_to_string(l.accounts, ', '), l.party) AS accounts, l.kind, l.key_count,
    internal.first_of(list_transform(l.ranked, lambda entry: replace(entry.operation, 'kms:', '')), 4) AS operations,
    'by ' || array_to_string(list_transform(l.paths, lambda path: CASE path WHEN 'policy' THEN 'key policy' ELSE path END), ' and ') AS paths,
    coalesce(d.data, 'no known resource') AS data,
    CASE WHEN l.since_run = $run_id AND $run_id > (SELECT min(run_id) FROM runs) THEN 'this run' ELSE strftime(l.since, '%Y-%m-%d') END AS since,
    CASE WHEN l.kind <> 'known_party' THEN 'not_agreed' WHEN a.party IS NULL THEN 'no_profile' WHEN a.deviations > 0 THEN 'deviates'
        WHEN a.unknown > 0 THEN 'unknown' ELSE 'agreed' END AS agreement,
    CASE WHEN l.kind = 'known_party' AND a.deviations > 0 THEN internal.counted(a.deviations, 'deviation', 'deviations') END AS deviations,
    CASE WHEN a.unmet > 0 THEN 'cannot use ' || internal.counted(a.unmet, 'key', 'keys') || ' it needs' END AS unmet,
    internal.counted(l.key_count, 'key', 'keys') AS summary,
    k.key_list, nullif(l.key_count - len(k.key_list), 0) AS keys_more,
    l.total
FROM listed AS l
JOIN key AS k USING (party, kind)
LEFT JOIN data AS d USING (party, kind)
LEFT JOIN agreed AS a USING (party)
ORDER BY l.kind = 'known_party', l.kind, l.key_count DESC, l.party
