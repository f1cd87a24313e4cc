-- The keys that a vendor can use or should be able to use: problems first. Its access is that of its own principals, and that of the roles that its
-- profiles name, which the checks evaluate.
WITH checked AS (
    SELECT key_arn, min({'rank': list_position(['broken', 'blocked_by_policy', 'over_shared', 'unknown', 'accessible'], result), 'result': result}).result AS result,
        min(key_alias) AS key_alias,
        string_agg(DISTINCT profile, ', ' ORDER BY profile) AS profiles, string_agg(DISTINCT reason, chr(10) ORDER BY reason) AS reason,
        bool_or(result IN ('accessible', 'over_shared')) AS usable, string_agg(DISTINCT evidence, '; ' ORDER BY evidence) FILTER (result IN ('accessible', 'over_shared')) AS evidence,
        min(since) AS since
    FROM vendor_checks
    WHERE subject_type = 'key' AND key_arn IS NOT NULL
    GROUP BY key_arn
),
path AS (
    SELECT e.key_arn, list([
        CASE e.path WHEN 'grant' THEN 'Grant ' ELSE 'Statement ' END || e.source_id, e.principal,
        array_to_string(list_transform(e.operations, lambda operation: substr(operation, 5)), ', '),
        coalesce(nullif(e.conditions, ''), 'none') || CASE WHEN e.needs_iam THEN chr(10) || 'its own IAM policies must allow it too' ELSE '' END,
        CASE WHEN len(v.fallback_paths[e.source_id]) > 0 THEN 'some access remains through ' || array_to_string(v.fallback_paths[e.source_id], ', ')
            ELSE 'access ends' END
    ] ORDER BY e.path DESC, e.statement_index, e.source_id, e.principal) AS paths
    FROM effective_access AS e
    JOIN vendors AS v USING (key_arn)
    GROUP BY e.key_arn
),
used AS (
    SELECT key_arn, count(*) AS known, list([coalesce($services[service], service), coalesce(resource_name, resource_arn), role,
        coalesce(account_name, account_id) || ', ' || region] ORDER BY service, resource_name, resource_arn, role)[1:$nested] AS uses
    FROM resource_keys
    GROUP BY key_arn
)
SELECT coalesce(k.alias, c.key_alias, split_part(key_arn, '/', 2)) AS name, key_arn,
    coalesce(c.result, 'shared') AS result, coalesce(c.profiles, 'no profile') AS profiles,
    coalesce(a.name, split_part(key_arn, ':', 5)) AS account, split_part(key_arn, ':', 5) AS account_id, split_part(key_arn, ':', 4) AS region,
    CASE WHEN k.key_arn IS NULL THEN 'dangling' ELSE coalesce(k.state, 'unknown') END AS state,
    CASE WHEN k.days_to_deletion IS NOT NULL THEN 'will be deleted on ' || strftime(k.deletion_date, '%Y-%m-%d') END AS deletion,
    coalesce(internal.first_of(v.operations, 3).replace('kms:', ''),
        CASE WHEN c.result IN ('accessible', 'over_shared') THEN 'those that its profile requires' WHEN c.usable THEN 'those that another profile requires' WHEN k.key_arn IS NULL THEN 'none'
            WHEN c.result = 'unknown' OR NOT k.policy_known THEN 'unknown' ELSE 'none' END) AS operations,
    coalesce(array_to_string(v.paths, '; '), CASE WHEN c.usable THEN 'a role of the organization' WHEN k.key_arn IS NOT NULL AND (c.result = 'unknown' OR NOT k.policy_known) THEN 'unknown' ELSE 'no path' END) AS through,
    CASE WHEN v.paths IS NULL THEN c.evidence ELSE nullif(array_to_string(v.conditions, chr(10)), '') END AS conditions, c.reason,
    coalesce(u.dependents, 0) AS dependents,
    CASE k.last_use WHEN 'used' THEN strftime(k.last_used_at, '%Y-%m-%d') WHEN 'never_used' THEN 'never used' ELSE 'unknown' END AS last_use, CASE WHEN k.last_use = 'unknown' THEN k.last_use_reason END AS last_use_reason,
    'since ' || strftime(coalesce(v.since, c.since), '%Y-%m-%d') AS since,
    CASE WHEN c.reason IS NOT NULL THEN 'Result, ' ELSE '' END || internal.counted(coalesce(len(path.paths), 0), 'access path', 'access paths') || ', '
        || internal.counted(coalesce(used.known, 0), 'reference', 'references') AS summary,
    path.paths, used.uses, nullif(greatest(used.known - $nested, 0), 0) AS uses_more,
    count(*) OVER () AS total
FROM (SELECT key_arn FROM vendors UNION SELECT key_arn FROM checked) AS listed
LEFT JOIN keys AS k USING (key_arn)
LEFT JOIN accounts AS a ON a.account_id = split_part(key_arn, ':', 5)
LEFT JOIN vendors AS v USING (key_arn)
LEFT JOIN checked AS c USING (key_arn)
LEFT JOIN path USING (key_arn)
LEFT JOIN used USING (key_arn)
LEFT JOIN (SELECT key_arn, count(DISTINCT resource_arn) AS dependents FROM resource_keys GROUP BY key_arn) AS u USING (key_arn)
ORDER BY list_position(['broken', 'blocked_by_policy', 'over_shared', 'unknown', 'shared', 'accessible', 'denied_by_tag', 'not_selected'], coalesce(c.result, 'shared')),
    dependents DESC, account, region, name, key_arn
LIMIT $limit
