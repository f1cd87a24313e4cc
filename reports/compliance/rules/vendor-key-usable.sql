-- id: vendor-key-usable
-- title: Vendors can use the keys that they need
-- severity: high
-- family: vendors
-- why: >-
--   A vendor that cannot use the key any more stops working: scans end, protected records stay locked, and some
--   services give data up after days. The cause is mostly here: a disabled key, a changed policy, a deleted role.
-- fix: >-
--   See the reason: enable the key or cancel its deletion, put the vendor's statement back into the key policy, or
--   set the role's policy. The check names a day where something is lost for good. If the vendor is no longer used,
--   take its profile out of the settings.
-- console: >-
--   In KMS, open the key and choose "Enable" or "Cancel key deletion"; or edit the key policy.
-- cli: kmsledger vendors; aws kms cancel-key-deletion --key-id KEY_ARN; aws kms enable-key --key-id KEY_ARN
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile asks for (`kmsledger vendors` prints it).

-- The profiles of vendors and what they ask are those of the settings (vendors.profiles); a key that several profiles
-- are about has one row.
WITH judged AS (
  SELECT key_arn, any_value(account_id) AS account_id, any_value(region) AS region,
    bool_or(verdict IN ('broken', 'blocked_by_policy')) AS wrong, bool_or(verdict = 'unknown') AS unsure,
      bool_and(verdict IN ('denied_by_tag', 'not_selected')) AS elsewhere,
    array_to_string(list_sort(list(DISTINCT profile || ': ' || reason) FILTER (verdict IN ('broken',
      'blocked_by_policy')))[1:3], ' ') AS wrongs,
    min(profile || ': ' || reason) FILTER (verdict = 'unknown') AS doubt,
    min(profile || ': ' || reason) AS first, array_to_string(list_sort(list(DISTINCT profile)), ', ') AS profiles
  FROM vendor_checks
  WHERE kind = 'key' AND key_arn IS NOT NULL
  GROUP BY key_arn
)
SELECT key_arn AS resource_arn, account_id, region, key_arn,
  CASE
    WHEN elsewhere THEN 'not_applicable'
    WHEN NOT wrong AND unsure THEN 'unknown'
    WHEN wrong THEN 'fail'
    WHEN NOT wrong AND NOT unsure THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN elsewhere THEN first
    WHEN wrong THEN wrongs
    WHEN unsure THEN doubt
    ELSE 'The vendor can use the key (' || profiles || ').'
  END AS reason
FROM judged
UNION ALL
-- A key whose policy is not known may be one that a vendor uses, where there are vendors.
SELECT k.key_arn, k.account_id, k.region, k.key_arn, 'unknown',
  'It is not known whether a vendor uses the key: its policy could not be read.'
FROM keys k
WHERE k.manager IS DISTINCT FROM 'AWS' AND NOT k.policy_known
  AND (SELECT count(*) FROM vendor_checks WHERE kind IN ('key', 'finding')) > 0
  AND k.key_arn NOT IN (SELECT c.key_arn FROM vendor_checks c WHERE c.kind IN ('key', 'finding')
    AND c.key_arn IS NOT NULL)
