-- The run that the views answer as of.
--! internal
--: run_id | Its number.
--: started_at | When it began (UTC).
SELECT run_id, started_at FROM internal.run WHERE run_id = as_of_run
