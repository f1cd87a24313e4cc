-- How many findings began to fail, and how many were resolved, in each of the runs $run_ids. As in finding_lifecycle, an unknown or
-- waived status does not interrupt a failure; a pass, not_applicable or the deletion of the resource resolves it.
WITH changed AS (
    SELECT DISTINCT rule_id, resource_arn FROM findings_history WHERE greatest(valid_from, valid_to) >= $run_ids[1]
),
version AS (
    SELECT rule_id, resource_arn, status, unwaived_status, valid_from, valid_to,
        lead(valid_from) OVER (PARTITION BY rule_id, resource_arn ORDER BY valid_from) AS next_from
    FROM findings_history SEMI JOIN changed USING (rule_id, resource_arn)
),
event AS (
    SELECT rule_id, resource_arn, valid_from AS run_id, status,
        CASE WHEN unwaived_status <> 'unknown' THEN unwaived_status = 'fail' END AS failing
    FROM version
    UNION ALL
    SELECT rule_id, resource_arn, valid_to, NULL, false
    FROM version
    WHERE valid_to IS NOT NULL AND next_from IS DISTINCT FROM valid_to
),
turn AS (
    SELECT run_id, status, failing,
        lag(failing IGNORE NULLS) OVER (PARTITION BY rule_id, resource_arn ORDER BY run_id) AS failing_before
    FROM event
)
SELECT run_id,
    count(*) FILTER (WHERE status = 'fail' AND failing AND failing_before IS NOT TRUE) AS began,
    count(*) FILTER (WHERE NOT failing AND failing_before) AS resolved
FROM turn
WHERE run_id IN $run_ids
GROUP BY run_id
