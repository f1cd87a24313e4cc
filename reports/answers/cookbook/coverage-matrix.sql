-- title: Coverage by account
-- topic: coverage
-- question: >-
--   Which accounts and regions did the last run read, completely or in part?
-- answer: >-
--   One row per account: how many of its regions were read completely, in part or not at all, the regions that
--   failed, and for how many consecutive runs the oldest gap has been open.
SELECT account_name, account_id, count(*) FILTER (outcome = 'complete') AS complete,
  count(*) FILTER (outcome = 'partial') AS partial, count(*) FILTER (outcome = 'failed') AS failed,
  count(*) FILTER (outcome IN ('excluded', 'suspended', 'left', 'disabled')) AS skipped,
  list_sort(list(region) FILTER (outcome = 'failed')) AS failed_regions,
  list_sort(list(region) FILTER (outcome = 'partial')) AS partial_regions,
  max(consecutive_runs) FILTER (outcome IN ('partial', 'failed')) AS consecutive_runs
FROM coverage
WHERE operation IS NULL
GROUP BY account_name, account_id
ORDER BY failed DESC, partial DESC, account_id
