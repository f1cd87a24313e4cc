-- id: alias-target-missing
-- title: Every alias points at a key that exists
-- severity: medium
-- family: aliases
-- why: >-
--   An alias without its key is a name that fails: who encrypts or decrypts by it gets an error, and whoever may
--   create keys there can give the name a new meaning. AWS removes aliases with their key, so one that stays behind
--   is a sign that something went wrong, or that a key vanished within the last minutes.
-- fix: >-
--   Look whether the key was deleted on purpose (CloudTrail: DeleteKey). If so, remove the alias, and put another key
--   into the configuration that names it. If the data under the old key is still needed, it has to come from copies
--   under another key.
-- console: >-
--   In KMS, "Customer managed keys": search for the alias; what is not found there can be removed with the CLI only.
-- cli: |-
--   aws kms list-aliases --region REGION
--   aws kms delete-alias --region REGION --alias-name alias/NAME
-- terraform: >-
--   Set target_key_id of aws_kms_alias to a key that exists, or remove the resource.
SELECT
  alias_arn AS resource_arn, account_id, region, target_key_arn AS key_arn,
  CASE target
    WHEN 'unknown' THEN 'unknown'
    WHEN 'none' THEN 'fail'
    WHEN 'gone' THEN 'fail'
    WHEN 'exists' THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE target
    WHEN 'unknown' THEN 'Its key ' || target_key_arn
      || ' is not in the inventory, and not all keys of its account and region could be listed.'
    WHEN 'none' THEN 'The alias points at no key.'
    WHEN 'gone' THEN 'Its key ' || target_key_arn || ' does not exist.'
    ELSE 'Its key exists.'
  END AS reason
FROM internal.alias_targets
