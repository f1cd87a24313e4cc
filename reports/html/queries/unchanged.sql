-- The previous run, and the number of gaps and outcomes that only one of the two runs has.
WITH previous AS (
    SELECT max(run_id) AS run_id FROM runs WHERE run_id < $run_id
),
before AS (
    SELECT account_id, region, operation, subject, outcome, cause FROM coverage_as_of((SELECT run_id FROM previous))
),
after AS (
    SELECT account_id, region, operation, subject, outcome, cause FROM coverage
)
SELECT
    (SELECT run_id FROM previous) AS previous_run,
    (SELECT count(*) FROM (FROM before EXCEPT FROM after)) + (SELECT count(*) FROM (FROM after EXCEPT FROM before)) AS differences
