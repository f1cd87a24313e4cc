-- The changes between each run and the previous one, except for the first run and pruned runs.
-- Uses of keys are not changes; see keys.last_used_at.
--: run_id | The run that detected the change.
--: occurred_at | When that run began; the change happened before.
--: account_id | The account.
--: account_name | The account's name.
--: region | The region.
--: key_arn | The affected key.
--: resource_arn | The affected resource.
--: subject | The display name: an alias or name.
--: event_type | The type of the change: key_created, deletion_scheduled, policy_opened, alias_moved, rekeyed, tag_removed ...
--: severity | critical, high, medium, low or info: that of the rule that reports the result of such a change to a key in use.
--: message | The change in words.
--: before | The previous value.
--: after | The new value.
SELECT run_id, occurred_at, account_id, account_name, region, key_arn, resource_arn, subject, event_type, severity, message,
  before, after
FROM internal.change
WHERE run_id <= as_of_run
