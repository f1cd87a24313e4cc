-- The share of account-regions that each of the runs $run_ids read completely.
SELECT run_id, coverage_percent FROM run_coverage WHERE run_id IN $run_ids
