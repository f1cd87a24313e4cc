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
  SELECT key_arn, array_to_string(list_sort(list(DISTINCT message))[1:3], ' ')
      || CASE WHEN count(DISTINCT message) > 3 THEN ' And ' || (count(DISTINCT message) - 3) || ' more.'
        ELSE '' END AS sentences
  FROM (
    SELECT key_arn, 'Statement ' || coalesce(sid, '#' || statement_index) || ' gives ' || array_to_string(who[1:3], ', ')
      || CASE WHEN len(who) > 3 THEN ' and ' || (len(who) - 3) || ' more' ELSE '' END || ' all actions.' AS message
    FROM (
      SELECT key_arn, sid, statement_index, list_sort(list_filter(principals, lambda one: one <> account_id
        AND NOT ends_with(one, ':iam::' || account_id || ':root')
        AND NOT regexp_full_match(one, 'A(ID|RO|GP|IP|NP|3T)A[A-Z0-9]{12,}'))) AS who
      FROM key_policy_statements
      WHERE effect = 'Allow' AND has_resource AND principal_kind = 'Principal' AND NOT not_actions
        AND len(list_filter(actions, lambda one: lower(one) IN ('kms:*', '*'))) > 0
        AND NOT (len(principals) = 1 AND (principals[1] = account_id
          OR ends_with(principals[1], ':iam::' || account_id || ':root')))
    ) AS wide
    WHERE len(who) > 0
  ) AS reported
  GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN f.key_arn IS NOT NULL THEN 'fail' WHEN d.statements_unknown_reason IS NULL THEN 'pass' ELSE 'unknown' END AS status,
  coalesce(f.sentences, 'It is not known who has all actions: ' || d.statements_unknown_reason || '.',
    'Nobody but the account itself has all actions.') || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN found f ON f.key_arn = d.key_arn
