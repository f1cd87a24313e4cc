-- Whether rules were evaluated for an earlier run; otherwise every finding would be new.
SELECT count(*) > 0 AS evaluated FROM rule_results_history WHERE valid_from < $run_id
