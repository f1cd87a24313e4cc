-- How many findings began to fail, and how many were resolved, in each of the runs $run_ids. As in finding_lifecycle, an unknown or
-- waived status does not interrupt a failure; a pass, not_applicable or the deletion of the resource resolves it.
WITH version AS (
    SELECT *, hash(rule_id, resource_arn) AS pair FROM findings_history
),
changed AS (
    SELECT pair, count(*) AS versions FROM version GROUP BY pair HAVING max(greatest(valid_from, valid_to)) >= $run_ids[1]
),
-- Nearly all findings have one version and need no comparison with an earlier one.
repeated AS (
    SELECT rule_id, resource_arn, status, unwaived_status, valid_from, valid_to,
        lead(valid_from) OVER (PARTITION BY rule_id, resource_arn ORDER BY valid_from) AS next_from
    FROM version SEMI JOIN (FROM changed WHERE versions > 1) USING (pair)
),
event AS (
    SELECT rule_id, resource_arn, valid_from AS run_id, status,
        CASE WHEN unwaived_status <> 'unknown' THEN unwaived_status = 'fail' END AS failing
    FROM repeated
    UNION ALL
    SELECT rule_id, resource_arn, valid_to, NULL, false
    FROM repeated
    WHERE valid_to IS NOT NULL AND next_from IS DISTINCT FROM valid_to
),
turn AS (
    SELECT run_id, status = 'fail' AS is_open, failing,
        lag(failing IGNORE NULLS) OVER (PARTITION BY rule_id, resource_arn ORDER BY run_id) AS failing_before
    FROM event
    UNION ALL
    SELECT unnest([valid_from, valid_to]), unnest([status = 'fail', false]), unnest([true, false]), unnest([false, true])
    FROM version SEMI JOIN (FROM changed WHERE versions = 1) USING (pair)
    WHERE unwaived_status = 'fail'
)
SELECT run_id,
    count(*) FILTER (WHERE is_open AND failing AND failing_before IS NOT TRUE) AS began,
    count(*) FILTER (WHERE NOT failing AND failing_before) AS resolved
FROM turn
WHERE run_id IN $run_ids
GROUP BY run_id
