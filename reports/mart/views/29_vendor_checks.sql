-- What vendor profiles say of keys, for the run that the mart was built for; an earlier run has no rows here (see `report --as-of`).
--: profile | The use of the profile, by its name in the settings, or the profile's id.
--: vendor | The vendor.
--: subject_type | key (a verdict on a key), finding (something is not as the profile asks) or profile (nothing was checked).
--: check_name | What was checked: access, key_spec, replica_missing, external_id_missing, alias_moved ...
--: account_id | The account.
--: account_name | Its name.
--: region | The region; global for roles.
--: key_arn | The key.
--: key_alias | Its first alias.
--: subject | What else it is about: a role, a resource.
--: result | accessible, denied_by_tag, not_selected, blocked_by_policy, broken, over_shared, unknown; wrong, advice, not_configured.
--: severity | critical, high, medium, low or info.
--: reason | Why, in words.
--: fix | What to do.
--: statement | The policy or statements to set, as JSON.
--: evidence | The statement, grant or state that decides; before and after of an edit.
--: deadline | By when something is lost for good.
--: required | What the profile requires of its keys themselves, as JSON: {"multi_region": "true"}; values that all fit are joined by " or ". Only of kind key.
--: since | Since when it is so, as far as the ledger saw.
SELECT profile, vendor, subject_type, check_name, account_id, account_name, region, key_arn, key_alias, subject, result, severity,
  reason, fix, statement, evidence, deadline, required, since
FROM internal.vendor_check
WHERE run_id = as_of_run
