-- Findings by severity and status.
SELECT
    severity,
    count(*) FILTER (WHERE status = 'fail') AS fail,
    count(*) FILTER (WHERE status = 'unknown') AS unknown,
    count(*) FILTER (WHERE status = 'pass') AS pass,
    count(*) FILTER (WHERE status = 'not_applicable') AS not_applicable
FROM findings
GROUP BY severity
ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity)
