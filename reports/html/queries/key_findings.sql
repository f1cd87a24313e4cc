-- The problems that rules ever found with a key, its aliases, grants and dependents: open ones first, then resolved ones.
SELECT coalesce(f.severity, r.severity, 'info') AS severity, coalesce(f.status, 'pass') AS status,
    CASE WHEN f.status IS NULL THEN 'it no longer exists' END AS gone,
    coalesce(f.resource_name, l.resource_arn) AS resource_name, l.resource_arn,
    coalesce(f.title, r.title, l.rule_id) AS title, l.rule_id, f.reason, 'waived until ' || strftime(f.waived_until, '%Y-%m-%d') AS waived,
    coalesce(strftime(l.first_failed, '%Y-%m-%d'), CASE WHEN f.status = 'unknown' THEN 'unknown since ' || strftime(l.since, '%Y-%m-%d') ELSE 'never' END) AS first_failed,
    CASE WHEN l.reopened > 0 THEN 'reopened ' || internal.counted(l.reopened, 'time', 'times') END AS reopened,
    coalesce(strftime(l.resolved_at, '%Y-%m-%d'), CASE WHEN f.status IN ('fail', 'waived') THEN 'open' ELSE '' END) AS resolved,
    count(*) OVER () AS total
FROM finding_lifecycle AS l
LEFT JOIN findings AS f USING (rule_id, resource_arn)
LEFT JOIN rules AS r USING (rule_id)
ORDER BY list_position(['fail', 'unknown', 'waived'], f.status), internal.severity_rank(coalesce(f.severity, r.severity, 'info')), l.resolved_at DESC, l.rule_id, l.resource_arn
LIMIT $limit
