-- The findings whose status changed in this run (see status_changes.sql): the $limit most severe per status change, each with its
-- situation, if it belongs to one.
WITH changed AS (
    SELECT
        CASE
            WHEN status = 'unknown' THEN 'unknown'
            WHEN first_failed < since THEN 'returned'
            WHEN reopened > 0 THEN 'reopened'
            ELSE 'new'
        END AS status_change,
        rule_id, title, severity, resource_arn, resource_name, account_id, account_name, region, owner, reason,
        NULL AS outcome, reopened
    FROM findings
    WHERE status IN ('fail', 'unknown') AND since = CAST($at AS TIMESTAMP)
),
closed AS (
    SELECT l.rule_id, l.resource_arn, l.reopened, h.severity, h.account_id, h.region, h.reason
    FROM finding_lifecycle AS l
    LEFT JOIN findings_history AS h
        ON h.rule_id = l.rule_id AND h.resource_arn = l.resource_arn AND h.valid_to = $run_id
    WHERE l.resolved_at = CAST($at AS TIMESTAMP)
),
resolved AS (
    SELECT
        'resolved' AS status_change, e.rule_id, coalesce(r.title, e.rule_id) AS title, coalesce(r.severity, e.severity, 'info') AS severity,
        e.resource_arn, coalesce(f.resource_name, e.resource_arn) AS resource_name,
        coalesce(f.account_id, e.account_id) AS account_id, a.name AS account_name, coalesce(f.region, e.region) AS region, f.owner,
        coalesce(f.reason, e.reason) AS reason,
        CASE
            WHEN f.status = 'pass' THEN 'passes now'
            WHEN f.status IS NOT NULL THEN 'no longer applies'
            WHEN r.rule_id IS NULL THEN 'the rule is no longer enabled'
            ELSE 'no longer exists; before'
        END AS outcome,
        e.reopened
    FROM closed AS e
    LEFT JOIN rules AS r ON r.rule_id = e.rule_id
    LEFT JOIN findings AS f ON f.rule_id = e.rule_id AND f.resource_arn = e.resource_arn
    LEFT JOIN accounts AS a ON a.account_id = coalesce(f.account_id, e.account_id)
),
page AS (
    SELECT *
    FROM (SELECT * FROM changed UNION ALL SELECT * FROM resolved)
    QUALIFY row_number() OVER (
        PARTITION BY status_change
        ORDER BY list_position(['critical', 'high', 'medium', 'low', 'info'], severity), title, rule_id, account_name, account_id,
            region, resource_name, resource_arn
    ) <= $limit
)
SELECT page.*, s.situation_id
FROM page
LEFT JOIN situation_findings AS s ON s.rule_id = page.rule_id AND s.resource_arn = page.resource_arn
ORDER BY list_position(['new', 'reopened', 'returned', 'unknown', 'resolved'], page.status_change),
    list_position(['critical', 'high', 'medium', 'low', 'info'], page.severity), page.title, page.rule_id, page.account_name,
    page.account_id, page.region, page.resource_name, page.resource_arn
