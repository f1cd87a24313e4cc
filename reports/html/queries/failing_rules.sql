-- Failing rules of critical severity with examples; failing rules of high severity as one row if there are four or more.
WITH failing AS (
    SELECT
        rule_id,
        any_value(title) AS title,
        severity,
        count(*) AS failed,
        min(coalesce(resource_name, resource_arn), 3) AS examples,
        count(DISTINCT account_id) AS accounts,
        min(account_id) AS account_id,
        min(account_name) AS account_name
    FROM findings
    WHERE status = 'fail' AND severity IN ('critical', 'high')
    GROUP BY rule_id, severity
)
SELECT rule_id, title, severity, failed, examples, accounts, account_id, account_name, 1 AS rules
FROM failing
WHERE severity = 'critical' OR (SELECT count(*) FROM failing WHERE severity = 'high') < 4
UNION ALL
SELECT NULL, NULL, 'high', CAST(sum(failed) AS BIGINT), list(title ORDER BY failed DESC, title)[1:3], NULL, NULL, NULL, count(*)
FROM failing
WHERE severity = 'high'
HAVING count(*) >= 4
ORDER BY list_position(['critical', 'high'], severity), failed DESC, rule_id
