-- What changed between a run and the one before it, for every run but the first and those that were pruned.
-- Uses of keys are no changes: they would drown everything else (view keys has last_used_at).
--: run_id | The run that saw the change.
--: at | When that run began: the change happened before. (DuckDB 2 wants this name in quotes: "at".)
--: account_id | The account.
--: account_name | The account's name.
--: region | The region.
--: key_arn | The key that is concerned.
--: resource_arn | The resource that is concerned.
--: subject | What a person would call it: an alias or name.
--: kind | key_created, deletion_scheduled, policy_opened, alias_moved, rekeyed, tag_removed ...
--: severity | high, medium, low or info.
--: sentence | The change in words.
--: before | What was there before.
--: after | What is there now.
SELECT run_id, "at", account_id, account_name, region, key_arn, resource_arn, subject, kind, severity, sentence,
  before, after
FROM ledger.change
WHERE run_id <= as_of_run
