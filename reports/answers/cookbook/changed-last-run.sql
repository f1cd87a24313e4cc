-- title: What changed last night
-- topic: time
-- question: >-
--   What changed in the last run, the grave first?
-- answer: >-
--   The changes of the last run in words. Uses of keys are no changes.
SELECT severity, event_type, account_name, region, message, key_arn
FROM changes
WHERE run_id = (SELECT max(run_id) FROM runs)
ORDER BY list_position(['high', 'medium', 'low', 'info'], severity), account_name, message
