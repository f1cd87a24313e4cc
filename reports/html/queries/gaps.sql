-- The open gaps; whole listings, which hide an unknown number of resources, first.
SELECT coalesce(account_name, account_id) AS account, account_id, CASE region WHEN '*' THEN 'all regions' ELSE region END AS region,
    action, nullif(subject, '') AS subject, CASE
        WHEN subject IN (SELECT key_arn FROM keys) THEN 'key-' || subject
        WHEN subject IN (SELECT resource_arn FROM resource_keys) THEN 'resource-' || subject
    END AS place,
    CASE WHEN coalesce(coverage.subject, '') = '' THEN 'the whole listing' END AS whole,
    coalesce(cause_text, cause, 'no reason recorded') AS cause, code, message,
    coalesce(strftime(since, '%Y-%m-%d'), 'unknown') AS since, consecutive_runs AS runs,
    count(*) OVER () AS total
FROM coverage
WHERE outcome = 'gap'
ORDER BY coalesce(coverage.subject, '') <> '', account_name, account_id, region, service, operation, subject
LIMIT $limit
