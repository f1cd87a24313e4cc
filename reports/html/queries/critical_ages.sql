-- For how many days the critical findings that fail have failed: by age, and the median.
SELECT
    count(*) FILTER (WHERE days <= 1) AS day,
    count(*) FILTER (WHERE days BETWEEN 2 AND 7) AS week,
    count(*) FILTER (WHERE days BETWEEN 8 AND 30) AS month,
    count(*) FILTER (WHERE days BETWEEN 31 AND 90) AS quarter,
    count(*) FILTER (WHERE days > 90) AS older,
    CAST(median(days) AS INTEGER) AS median
FROM (
    SELECT date_diff('day', l.first_failed, CAST($at AS TIMESTAMP)) AS days
    FROM findings_history AS f
    JOIN finding_lifecycle AS l USING (rule_id, resource_arn)
    WHERE internal.known(f.valid_from, f.valid_to, internal.view_run()) AND f.status = 'fail' AND f.severity = 'critical'
)
