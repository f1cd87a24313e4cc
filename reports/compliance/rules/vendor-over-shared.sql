-- id: vendor-over-shared
-- title: Vendors have no more access to keys than their profiles ask for
-- severity: high
-- family: vendors
-- why: >-
--   The vendor's own document says which operations it needs, on which keys, under which conditions. Whatever it has
--   beyond that is risk without use: a breach at the vendor reaches as far as the access does.
-- fix: >-
--   The key policy (or the policy of the vendor's role) gives the vendor more than its profile asks for, or gives
--   others access to a key that is meant for the vendor alone. Set the statement that the check prints; it contains
--   all that the vendor needs.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace the vendor's statement by that of the profile.
-- cli: >-
--   kmsledger vendors; aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms
--   put-key-policy --key-id KEY_ARN --policy file://policy.json
-- terraform: >-
--   Set the policy of aws_kms_key to the statement that the profile asks for (`kmsledger vendors` prints it).

-- The profiles of vendors and what they ask are those of the settings (vendors.profiles); a key that several profiles
-- are about has one row.
WITH judged AS (
  SELECT key_arn, any_value(account_id) AS account_id, any_value(region) AS region,
    bool_or(verdict IN ('over_shared')) AS wrong, bool_or(verdict = 'unknown') AS unsure,
      bool_and(verdict IN ('broken', 'blocked_by_policy', 'denied_by_tag', 'not_selected')) AS elsewhere,
    array_to_string(list_sort(list(DISTINCT profile || ': ' || reason) FILTER (verdict IN ('over_shared')))[1:3],
      ' ') AS wrongs,
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
    ELSE 'The vendor has what the profile asks for and no more (' || profiles || ').'
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
