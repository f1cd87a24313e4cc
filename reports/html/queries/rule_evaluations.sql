-- Whether rules were evaluated for an earlier run (otherwise every finding would be new), and for this one.
SELECT count(*) FILTER (valid_from < $run_id) > 0 AS earlier, count(*) FILTER (internal.known(valid_from, valid_to, internal.view_run())) > 0 AS current
FROM internal.rule_result
