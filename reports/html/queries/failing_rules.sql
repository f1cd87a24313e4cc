-- Rules of the two highest severities that fail, with a few of the resources that fail them.
SELECT
    rule_id,
    any_value(title) AS title,
    severity,
    count(*) AS failed,
    list_sort(list(coalesce(resource_name, resource_arn)))[1:3] AS examples,
    count(DISTINCT account_id) AS accounts,
    any_value(account_id) AS account_id,
    any_value(account_name) AS account_name
FROM findings
WHERE status = 'fail' AND severity IN ('critical', 'high')
GROUP BY rule_id, severity
ORDER BY list_position(['critical', 'high'], severity), failed DESC, rule_id
