-- id: alias-target-missing
-- title: Every alias points to an existing key
-- severity: medium
-- family: aliases
-- why: >-
--   Calls through an alias without a key fail, and any principal that may create keys and aliases there can point the
--   name to a different key. AWS deletes aliases together with their key, so a leftover alias means that something went
--   wrong or that the key disappeared minutes ago.
-- fix: >-
--   Check whether the key was deleted on purpose (CloudTrail: DeleteKey). If it was, delete the alias and update the
--   configuration that uses it. If the data under the old key is still needed, restore it from copies encrypted with
--   another key.
-- console: >-
--   In KMS, "Customer managed keys", search for the alias. An alias that is not listed there can only be deleted with
--   the CLI.
-- cli: |-
--   aws kms list-aliases --region REGION
--   aws kms delete-alias --region REGION --alias-name alias/NAME
-- terraform: >-
--   Set target_key_id of aws_kms_alias to an existing key, or remove the resource.
SELECT alias_arn AS resource_arn, account_id, region, target_key_arn AS key_arn,
  CASE target
    WHEN 'unknown' THEN unknown('Its key ' || target_key_arn
      || ' is not in the inventory, and not all keys of its account and region could be listed.')
    WHEN 'none' THEN fail('The alias points to no key.')
    WHEN 'gone' THEN fail('Its key ' || target_key_arn || ' does not exist.')
    WHEN 'exists' THEN pass('Its key exists.')
  END AS verdict
FROM internal.alias_targets
