-- The rules with their counts, failing ones first.
WITH counted AS (
    SELECT
        rule_id,
        count(*) FILTER (WHERE status = 'fail') AS fail,
        count(*) FILTER (WHERE status = 'unknown') AS unknown,
        count(*) FILTER (WHERE status = 'pass') AS pass,
        count(*) FILTER (WHERE status = 'not_applicable') AS not_applicable
    FROM findings
    GROUP BY rule_id
)
SELECT r.*, coalesce(fail, 0) AS fail, coalesce(unknown, 0) AS unknown, coalesce(pass, 0) AS pass,
    coalesce(not_applicable, 0) AS not_applicable
FROM rules AS r
LEFT JOIN counted AS c ON c.rule_id = r.rule_id
ORDER BY coalesce(fail, 0) > 0 DESC, list_position(['critical', 'high', 'medium', 'low', 'info'], r.severity),
    coalesce(fail, 0) DESC, coalesce(unknown, 0) DESC, r.rule_id
