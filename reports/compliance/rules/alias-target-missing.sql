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
WITH place AS (
  -- Where the listing of keys was seen in full, a key that is not in it does not exist.
  SELECT account_id, region FROM coverage WHERE operation IS NULL AND outcome IN ('complete', 'partial')
  EXCEPT
  SELECT account_id, region FROM coverage WHERE outcome = 'gap' AND service = 'kms' AND operation = 'ListKeys'
), named AS (
  SELECT a.alias_arn, a.alias_name, a.account_id, a.region, a.target_key_arn, k.key_arn, k.state, k.deletion_date,
    p.account_id IS NOT NULL AS listed
  FROM aliases a
  LEFT JOIN keys k ON k.key_arn = a.target_key_arn
  LEFT JOIN place p ON p.account_id = a.account_id AND p.region = a.region
  -- The predefined aliases of AWS point at nothing until they are used.
  WHERE NOT starts_with(a.alias_name, 'alias/aws/')
)
SELECT
  alias_arn AS resource_arn, account_id, region, target_key_arn AS key_arn,
  CASE
    WHEN target_key_arn IS NOT NULL AND key_arn IS NULL AND NOT listed THEN 'unknown'
    WHEN key_arn IS NULL THEN 'fail'
    WHEN key_arn IS NOT NULL THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN target_key_arn IS NULL THEN 'The alias points at no key.'
    WHEN key_arn IS NULL AND NOT listed THEN 'Its key ' || target_key_arn
      || ' is not in the inventory, and not all keys of its account and region could be listed.'
    WHEN key_arn IS NULL THEN 'Its key ' || target_key_arn || ' does not exist.'
    ELSE 'Its key exists.'
  END AS reason
FROM named
