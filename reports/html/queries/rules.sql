-- The rules with their counts: failing rules by severity, then rules with unknown results. A rule that fails is as severe as its
-- most severe failure.
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
),
failing AS (
    SELECT rule_id, internal.highest(severity) AS severity
    FROM internal.finding
    WHERE internal.known(valid_from, valid_to, internal.view_run()) AND status = 'fail'
    GROUP BY rule_id
)
SELECT r.* REPLACE (coalesce(f.severity, r.severity) AS severity), CAST(coalesce(fail, 0) AS BIGINT) AS fail, CAST(coalesce(unknown, 0) AS BIGINT) AS unknown,
    CAST(coalesce(waived, 0) AS BIGINT) AS waived, CAST(coalesce(pass, 0) AS BIGINT) AS pass,
    CAST(coalesce(not_applicable, 0) AS BIGINT) AS not_applicable
FROM rules AS r
LEFT JOIN counted AS c ON c.rule_id = r.rule_id
LEFT JOIN failing AS f ON f.rule_id = r.rule_id
ORDER BY coalesce(fail, 0) = 0, coalesce(fail, 0) = 0 AND coalesce(unknown, 0) = 0,
    internal.severity_rank(coalesce(f.severity, r.severity)),
    coalesce(fail, 0) DESC, coalesce(unknown, 0) DESC, r.rule_id
