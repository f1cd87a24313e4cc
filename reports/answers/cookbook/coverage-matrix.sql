-- title: What was covered
-- topic: coverage
-- question: >-
--   Which accounts and regions did the last run see, whole or in part?
-- answer: >-
--   One row for each account: how many of its regions were seen whole, in part or not, the regions that were not, and
--   the age of the oldest lack in runs.
SELECT account_name, account_id, count(*) FILTER (outcome = 'complete') AS complete,
  count(*) FILTER (outcome = 'partial') AS partial, count(*) FILTER (outcome = 'failed') AS failed,
  count(*) FILTER (outcome IN ('excluded', 'suspended', 'left', 'disabled')) AS left_out,
  list_sort(list(region) FILTER (outcome = 'failed')) AS failed_regions,
  list_sort(list(region) FILTER (outcome = 'partial')) AS partial_regions,
  max(consecutive_runs) FILTER (outcome IN ('partial', 'failed')) AS consecutive_runs
FROM coverage
WHERE operation IS NULL
GROUP BY account_name, account_id
ORDER BY failed DESC, partial DESC, account_id
