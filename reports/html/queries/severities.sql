-- Findings by severity and status.
SELECT
    severity,
    CAST(sum(failed) AS BIGINT) AS fail,
    CAST(sum(unknown) AS BIGINT) AS unknown,
    CAST(sum(waived) AS BIGINT) AS waived,
    CAST(sum(passed) AS BIGINT) AS pass,
    CAST(sum(not_applicable) AS BIGINT) AS not_applicable
FROM rule_results
WHERE severity IS NOT NULL
GROUP BY severity
ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity)
