-- Findings by severity and status. A finding can have another severity than its rule; passes are counted by rule.
SELECT
    severity,
    CAST(sum(fail) AS BIGINT) AS fail,
    CAST(sum(unknown) AS BIGINT) AS unknown,
    CAST(sum(waived) AS BIGINT) AS waived,
    CAST(sum(passed) AS BIGINT) AS pass,
    CAST(sum(not_applicable) AS BIGINT) AS not_applicable
FROM (
    SELECT severity, 0 AS fail, 0 AS unknown, 0 AS waived, passed, not_applicable
    FROM rule_results
    WHERE severity IS NOT NULL
    UNION ALL
    SELECT severity, count(*) FILTER (status = 'fail'), count(*) FILTER (status = 'unknown'), count(*) FILTER (status = 'waived'), 0, 0
    FROM internal.finding
    WHERE internal.known(valid_from, valid_to, internal.view_run())
    GROUP BY severity
)
GROUP BY severity
ORDER BY internal.severity_rank(severity)
