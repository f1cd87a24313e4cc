-- The run of the mart, with the number of earlier and later runs.
SELECT
    r.*,
    coalesce(r.finished_at, r.started_at) AS as_of_time,
    (SELECT count(*) FROM runs AS earlier WHERE earlier.run_id < r.run_id
        AND earlier.status IN ('complete', 'partial')) AS earlier_runs,
    -- View runs ends with this run.
    (SELECT count(*) FROM internal.run AS later WHERE later.run_id > r.run_id
        AND later.status IN ('complete', 'partial')) AS later_runs,
    m.name AS management_name
FROM runs AS r
LEFT JOIN accounts AS m ON m.account_id = r.management_account_id
ORDER BY r.run_id DESC
LIMIT 1
