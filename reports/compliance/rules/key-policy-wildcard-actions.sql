-- id: key-policy-wildcard-actions
-- title: Only the account itself has all actions on a key
-- severity: medium
-- family: access
-- why: >-
--   kms:* for a role, user, service or another account means use and administration in one: it can decrypt, change
--   the policy, pass the key on by grants and schedule its deletion. For the account's own root principal it is
--   normal, since it only lets IAM decide.
-- fix: >-
--   A statement gives kms:* or * to somebody else than the account. List the actions that are needed: Encrypt,
--   Decrypt, ReEncrypt*, GenerateDataKey* and DescribeKey for users, the administrative ones without them for
--   administrators. From other accounts only use of the key has an effect; write only that.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit";
--   replace kms:* by the actions of "Key users" or "Key administrators".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): list the actions of each statement.
WITH found AS (
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT 'Statement ' || coalesce(sid, '#' || position) || ' gives '
    || array_to_string(who[1:3], ', ') || CASE WHEN len(who) > 3 THEN ' and ' || (len(who) - 3) || ' more' ELSE '' END
    || ' all actions.'))[1:3], ' ')
      || CASE WHEN count(DISTINCT 'Statement ' || coalesce(sid, '#' || position) || ' gives '
        || array_to_string(who[1:3], ', ') || CASE WHEN len(who) > 3 THEN ' and ' || (len(who) - 3) || ' more'
        ELSE '' END || ' all actions.') > 3 THEN ' And ' || (count(DISTINCT 'Statement ' || coalesce(sid, '#'
        || position) || ' gives ' || array_to_string(who[1:3], ', ') || CASE WHEN len(who) > 3 THEN ' and '
        || (len(who) - 3) || ' more' ELSE '' END || ' all actions.') - 3) || ' more.' ELSE '' END AS sentences
  FROM (
    SELECT key_arn, sid, position, list_sort(list_filter(principals, lambda one: one <> account_id
      AND NOT ends_with(one, ':iam::' || account_id || ':root')
      AND NOT regexp_full_match(one, 'A(ID|RO|GP|IP|NP|3T)A[A-Z0-9]{12,}'))) AS who
    FROM key_policy_statements
    WHERE effect = 'Allow' AND has_resource AND principal_kind = 'Principal' AND NOT not_actions
      AND len(list_filter(actions, lambda one: lower(one) IN ('kms:*', '*'))) > 0
      AND NOT (len(principals) = 1 AND (principals[1] = account_id
        OR ends_with(principals[1], ':iam::' || account_id || ':root')))
  ) AS wide
  WHERE len(who) > 0
  GROUP BY key_arn
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM (
    SELECT key_arn, reason FROM access_paths WHERE path = 'policy' AND access = 'unknown' AND analysis_id IS NULL
    UNION ALL
    SELECT key_arn, 'a part of the policy cannot be read' FROM key_policies WHERE NOT readable
  ) AS every
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN f.key_arn IS NULL AND (u.key_arn IS NOT NULL OR NOT k.policy_known) THEN 'unknown'
    WHEN f.key_arn IS NOT NULL THEN 'fail'
    WHEN f.key_arn IS NULL AND u.key_arn IS NULL AND k.policy_known THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN f.key_arn IS NOT NULL THEN f.sentences
    WHEN u.key_arn IS NOT NULL THEN 'It is not known who has all actions: ' || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known who has all actions: the policy was not read.'
    ELSE 'Nobody but the account itself has all actions.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN found f ON f.key_arn = k.key_arn
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
