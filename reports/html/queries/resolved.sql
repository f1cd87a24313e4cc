-- The findings that were resolved in this run, the most severe first.
WITH closed AS (
    SELECT l.rule_id, l.resource_arn, l.reopened, h.severity, h.account_id, h.region, h.reason
    FROM finding_lifecycle AS l
    LEFT JOIN findings_history AS h
        ON h.rule_id = l.rule_id AND h.resource_arn = l.resource_arn AND h.valid_to = $run_id
    WHERE l.resolved_at = CAST($at AS TIMESTAMP)
),
resolved AS (
    SELECT
        e.rule_id, coalesce(r.title, e.rule_id) AS title, coalesce(r.severity, e.severity, 'info') AS severity,
        e.resource_arn, coalesce(f.resource_name, e.resource_arn) AS resource_name,
        coalesce(f.account_id, e.account_id) AS account_id, a.name AS account_name, coalesce(f.region, e.region) AS region, f.owner,
        coalesce(f.reason, e.reason) AS reason,
        CASE
            WHEN f.status = 'pass' THEN 'passes now'
            WHEN f.status IS NOT NULL THEN 'no longer applies'
            WHEN r.rule_id IS NULL THEN 'the rule is no longer enabled'
            ELSE 'no longer exists; before'
        END AS outcome,
        e.reopened
    FROM closed AS e
    LEFT JOIN rules AS r ON r.rule_id = e.rule_id
    LEFT JOIN findings AS f ON f.rule_id = e.rule_id AND f.resource_arn = e.resource_arn
    LEFT JOIN accounts AS a ON a.account_id = coalesce(f.account_id, e.account_id)
)
SELECT severity, resource_name, resource_arn, coalesce(account_name, account_id, 'no account') AS account, account_id, region, title,
    rule_id, outcome || coalesce(': ' || reason, '') AS reason, owner,
    CASE
        WHEN resource_arn IN (SELECT key_arn FROM keys) THEN 'key-' || resource_arn
        WHEN resource_arn IN (SELECT resource_arn FROM resource_keys) THEN 'resource-' || resource_arn
        WHEN regexp_matches(resource_arn, '^[0-9]{12}') THEN 'account-' || left(resource_arn, 12)
    END AS place,
    count(*) OVER () AS total
FROM resolved
ORDER BY internal.severity_rank(severity), title, rule_id, account_name, account_id,
    region, resource_name, resource_arn
LIMIT $limit
