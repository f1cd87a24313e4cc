-- The findings of the rules $rule_ids about the resources $resource_arns, in the order of these lists, with their $places.
WITH listed AS (
    SELECT unnest(CAST($rule_ids AS VARCHAR[])) AS rule_id, unnest(CAST($resource_arns AS VARCHAR[])) AS resource_arn,
        unnest(CAST($places AS VARCHAR[])) AS place, generate_subscripts(CAST($rule_ids AS VARCHAR[]), 1) AS position
)
SELECT f.severity, f.status,
    CASE WHEN $compare AND f.since = CAST($at AS TIMESTAMP)
        THEN internal.status_change(f.status, f.first_failed, f.since, f.reopened) END AS change,
    f.resource_name, f.resource_arn, coalesce(f.account_name, f.account_id, 'no account') AS account, f.account_id, f.region,
    f.title, f.rule_id, coalesce(f.reason, 'no reason recorded') AS reason,
    'waived until ' || strftime(f.waived_until, '%Y-%m-%d') AS waived, f.owner,
    CASE WHEN f.status = 'unknown' THEN date_diff('day', f.since, CAST($at AS TIMESTAMP)) ELSE f.age_days END AS open_days,
    'since ' || strftime(coalesce(f.first_failed, f.since), '%Y-%m-%d') AS since,
    CASE WHEN f.reopened > 0 THEN 'reopened ' || internal.counted(f.reopened, 'time', 'times') END AS reopened,
    CASE WHEN starts_with(f.resource_arn, 'arn:') THEN split_part(f.resource_arn, ':', 3) END AS service,
    l.place,
    $total AS total
FROM findings AS f
JOIN listed AS l ON l.rule_id = f.rule_id AND l.resource_arn = f.resource_arn
ORDER BY l.position
