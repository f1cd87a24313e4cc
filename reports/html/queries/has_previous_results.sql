-- Whether rules were run before this run: else everything would be new.
SELECT count(*) > 0 AS evaluated FROM rule_results_history WHERE valid_from < $run_id
