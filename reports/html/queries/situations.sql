-- The situations with what the texts need: dependents by service, databases to start, the rules and the changes that are evidence.
WITH chosen AS MATERIALIZED (
    SELECT *, count(*) OVER () AS total
    FROM internal.situation_details
    ORDER BY deadline NULLS LAST, internal.severity_rank(severity), affected DESC, situation_id
    LIMIT $limit
),
resource AS (
    SELECT situation_id, unnest(resource_arns) AS resource_arn FROM chosen
),
service AS (
    SELECT situation_id, list({'service': service, 'resources': resources} ORDER BY resources DESC, service) AS services
    FROM (
        SELECT c.situation_id, u.service, count(DISTINCT u.resource_arn) AS resources
        FROM chosen AS c
        JOIN resource_keys AS u ON u.key_arn = c.key_arn
        GROUP BY c.situation_id, u.service
    )
    GROUP BY situation_id
),
recoverable AS (
    SELECT f.situation_id, list_sort(list(DISTINCT {'name': r.name, 'type': r.resource_type, 'region': r.region})) AS databases
    FROM resource AS f
    JOIN resources AS r ON r.resource_arn = f.resource_arn
    WHERE starts_with(r.status, 'inaccessible-encryption-credentials-recoverable')
    GROUP BY f.situation_id
),
event AS (
    SELECT situation_id, list_sort(list(DISTINCT message))[1:3] AS changes
    FROM resource AS f
    JOIN (
        SELECT unnest([key_arn, resource_arn]) AS resource_arn, message FROM changes WHERE run_id = $run_id
    ) AS c USING (resource_arn)
    GROUP BY situation_id
),
checked AS (
    SELECT situation_id, list_sort(list(DISTINCT profile)) AS profiles
    FROM resource AS f
    JOIN (SELECT unnest([key_arn, subject]) AS resource_arn, profile FROM vendor_checks) AS v USING (resource_arn)
    GROUP BY f.situation_id
)
SELECT c.* EXCLUDE (resource_arns), r.fix, coalesce(s.services, []) AS services, coalesce(b.databases, []) AS databases,
    coalesce(x.changes, []) AS changes, coalesce(p.profiles, []) AS profiles,
    k.deletion_date, k.freshness, k.custom_key_store_id, CASE WHEN k.last_use = 'used' THEN k.last_used_at END AS last_used_at,
    date_diff('day', CAST($at AS TIMESTAMP), c.deadline) AS days_left,
    date_diff('day', CAST($at AS TIMESTAMP), k.deletion_date) AS days_to_deletion,
    CASE WHEN c.key_arn IN (SELECT key_arn FROM keys) THEN left(md5(c.key_arn), 12) END AS anchor
FROM chosen AS c
LEFT JOIN service AS s USING (situation_id)
LEFT JOIN recoverable AS b USING (situation_id)
LEFT JOIN event AS x USING (situation_id)
LEFT JOIN checked AS p USING (situation_id)
LEFT JOIN rules AS r ON r.rule_id = c.rule_id
LEFT JOIN internal.named_keys AS k ON k.key_arn = c.key_arn
ORDER BY c.deadline NULLS LAST, internal.severity_rank(c.severity), c.affected DESC, c.situation_id
