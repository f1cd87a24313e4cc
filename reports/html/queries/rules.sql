-- The rules with their counts: failing rules by severity, then rules with unknown results.
WITH counted AS (
    SELECT
        rule_id,
        sum(failed) AS fail,
        sum(unknown) AS unknown,
        sum(waived) AS waived,
        sum(passed) AS pass,
        sum(not_applicable) AS not_applicable
    FROM rule_results
    GROUP BY rule_id
)
SELECT r.*, CAST(coalesce(fail, 0) AS BIGINT) AS fail, CAST(coalesce(unknown, 0) AS BIGINT) AS unknown,
    CAST(coalesce(waived, 0) AS BIGINT) AS waived, CAST(coalesce(pass, 0) AS BIGINT) AS pass,
    CAST(coalesce(not_applicable, 0) AS BIGINT) AS not_applicable
FROM rules AS r
LEFT JOIN counted AS c ON c.rule_id = r.rule_id
ORDER BY coalesce(fail, 0) = 0, coalesce(fail, 0) = 0 AND coalesce(unknown, 0) = 0,
    list_position(['critical', 'high', 'medium', 'low', 'info'], r.severity),
    coalesce(fail, 0) DESC, coalesce(unknown, 0) DESC, r.rule_id
