-- title: Gaps by cause
-- topic: coverage
-- question: >-
--   What could not be read, why, and in which accounts?
-- answer: >-
--   Open gaps by cause and action, the most frequent first; kmsledger denials prints the statement that fixes each
--   denied call.
SELECT cause_text, action, count(*) AS gaps, count(DISTINCT account_id) AS accounts,
  list_sort(list_distinct(list(account_name)))[1:5] AS sample_accounts, max(consecutive_runs) AS consecutive_runs
FROM coverage
WHERE outcome = 'gap'
GROUP BY cause_text, action
ORDER BY gaps DESC, cause_text, action
