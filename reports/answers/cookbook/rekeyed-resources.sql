-- title: Resources whose key changed
-- topic: history
-- question: >-
--   Which resources changed their key in the last 30 days?
-- answer: >-
--   One row per change that a run saw, the latest first.
-- parameters:
--   days: {default: "30", description: "days before the run"}
SELECT occurred_at, account_name, region, subject AS resource, before, after, message, resource_arn
FROM changes
WHERE event_type = 'rekeyed' AND occurred_at >= (SELECT max(started_at) FROM runs) - CAST($days AS INTEGER) * INTERVAL 1 DAY
ORDER BY occurred_at DESC, resource_arn
