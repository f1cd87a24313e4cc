-- Who can use a key, and through what: access from outside and unknown access first.
SELECT principal, coalesce(party || coalesce(' (' || principal_account || ')', ''), principal_account) AS party, access,
    CASE WHEN operations IS NULL OR len(operations) = 0 THEN 'unknown' ELSE internal.first_of(operations, 3).replace('kms:', '') END AS operations,
    CASE path WHEN 'grant' THEN 'grant ' WHEN 'iam' THEN 'IAM policy ' ELSE 'statement ' END || source_id AS through,
    CASE WHEN needs_iam THEN 'and IAM policies of its account' END AS needs_iam,
    'if: ' || nullif(conditions, '') AS conditions,
    CASE WHEN freshness = 'stale' THEN 'last known' END AS stale, strftime(since, '%Y-%m-%d') AS since,
    'In words' AS summary, coalesce(message, reason) AS message,
    nullif(array_to_string(operations, ', '), '') AS all_operations, nullif(array_to_string(alternative_paths, ', '), '') AS alternatives,
    count(*) OVER () AS total
FROM effective_access
ORDER BY list_position(['public', 'external', 'public_via_service', 'unknown', 'vendor', 'deleted', 'organization', 'owner_direct', 'owner_delegated', 'aws_service'], access),
    principal, path, source_id
LIMIT $limit
