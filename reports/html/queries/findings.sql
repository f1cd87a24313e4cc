-- The failed, unknown and waived findings: at most $per_rule per rule and status, the most severe first; in a rule, those that
-- changed in this run first, then the oldest.
WITH open AS (
    SELECT *,
        CASE WHEN $compare AND since = CAST($at AS TIMESTAMP)
            THEN internal.status_change(status, first_failed, since, reopened) END AS status_change,
        CASE WHEN status = 'unknown' THEN date_diff('day', since, CAST($at AS TIMESTAMP)) ELSE age_days END AS open_days
    FROM findings
    WHERE status IN ('fail', 'unknown', 'waived')
), listed AS (
    -- Not a window function: it would hold the texts of millions of findings in memory.
    SELECT unnest(arg_min(o, {
        'earlier': (since = CAST($at AS TIMESTAMP)) IS NOT TRUE, 'first_failed': first_failed, 'since': since,
        'account_name': account_name, 'account_id': account_id, 'region': region, 'resource_name': resource_name,
        'resource_arn': resource_arn
    }, $per_rule)) AS f
    FROM open AS o
    GROUP BY rule_id, status
)
SELECT f.severity, f.status, f.status_change AS change, f.resource_name, f.resource_arn,
    coalesce(f.account_name, f.account_id, 'no account') AS account, f.account_id, f.region, f.title, f.rule_id,
    coalesce(f.reason, 'no reason recorded') AS reason,
    'waived until ' || strftime(f.waived_until, '%Y-%m-%d') AS waived, f.owner, f.open_days,
    'since ' || strftime(coalesce(f.first_failed, f.since), '%Y-%m-%d') AS since,
    CASE WHEN f.reopened > 0 THEN 'reopened ' || internal.counted(f.reopened, 'time', 'times') END AS reopened,
    CASE WHEN starts_with(f.resource_arn, 'arn:') THEN split_part(f.resource_arn, ':', 3) END AS service,
    CASE
        WHEN f.resource_arn IN (SELECT key_arn FROM keys) THEN 'key-' || f.resource_arn
        WHEN f.resource_arn IN (SELECT resource_arn FROM resource_keys) THEN 'resource-' || f.resource_arn
        WHEN regexp_matches(f.resource_arn, '^[0-9]{12}') THEN 'account-' || left(f.resource_arn, 12)
    END AS place,
    $total AS total
FROM listed
ORDER BY internal.severity_rank(f.severity),
    list_position(['fail', 'unknown', 'waived'], f.status), f.status_change IS NULL, f.rule_id,
    (f.since = CAST($at AS TIMESTAMP)) IS NOT TRUE, f.first_failed, f.since, f.account_name,
    f.account_id, f.region, f.resource_name, f.resource_arn
LIMIT $limit
