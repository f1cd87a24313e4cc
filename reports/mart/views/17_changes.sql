-- What changed between a run and the one before it, for every run but the first and those that were pruned.
-- Uses of keys are no changes: they would drown everything else (view keys has last_used_at).
--: run_id | The run that saw the change.
--: occurred_at | When that run began: the change happened before. (DuckDB 2 wants this name in quotes: "at".)
--: account_id | The account.
--: account_name | The account's name.
--: region | The region.
--: key_arn | The key that is concerned.
--: resource_arn | The resource that is concerned.
--: subject | What a person would call it: an alias or name.
--: event_type | key_created, deletion_scheduled, policy_opened, alias_moved, rekeyed, tag_removed ...
--: severity | high, medium, low or info.
--: message | The change in words.
--: before | What was there before.
--: after | What is there now.
SELECT run_id, occurred_at, account_id, account_name, region, key_arn, resource_arn, subject, event_type, severity, message,
  before, after
FROM internal.change
WHERE run_id <= as_of_run
