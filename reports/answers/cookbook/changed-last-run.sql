-- title: Changes of the last run
-- topic: history
-- question: >-
--   What changed in the last run, the most severe first?
-- answer: >-
--   The changes of the last run with their messages. New and ended uses of keys are not changes.
SELECT severity, event_type, account_name, region, message, key_arn
FROM changes
WHERE run_id = (SELECT max(run_id) FROM runs)
ORDER BY internal.severity_rank(severity), account_name, message
