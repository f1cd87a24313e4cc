-- The results of vendor profiles for the run for which the mart was built; as of an earlier run there are no rows (see `report --as-of`).
--: profile | The name of the assignment in the settings, or the ID of the profile.
--: vendor | The vendor.
--: subject_type | key (the result for a key), finding (a deviation from the profile) or profile (nothing was checked).
--: check_name | The check: access, key_spec, replica_missing, external_id_missing, alias_moved ...
--: account_id | The account.
--: account_name | Its name.
--: region | The region; global for roles.
--: key_arn | The key.
--: key_alias | The first alias of the key.
--: subject | The other subject: a role or a resource.
--: result | accessible, denied_by_tag, not_selected, blocked_by_policy, broken, over_shared, unknown; wrong, advice, not_configured.
--: severity | critical, high, medium, low or info.
--: reason | The reason, in words.
--: fix | How to fix it.
--: statement | The policy or statements to apply, as JSON.
--: evidence | The statement, grant or state that decides; before and after an edit.
--: deadline | The date after which data or access is permanently lost.
--: required | The properties that the profile requires of its keys, as JSON: {"multi_region": "true"}; alternatives are joined by " or ". Only for subject_type key.
--: since | When the ledger first saw this state.
SELECT profile, vendor, subject_type, check_name, account_id, account_name, region, key_arn, key_alias, subject, result, severity,
  reason, fix, statement, evidence, deadline, required, since
FROM internal.vendor_check
WHERE run_id = as_of_run
