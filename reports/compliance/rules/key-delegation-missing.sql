-- id: key-delegation-missing
-- title: Key policies leave the decision to IAM of the account as well
-- severity: medium
-- family: access
-- why: >-
--   A policy that names only single users and roles is managed by them alone: when the last of them is deleted,
--   nobody in the account can change, disable or delete the key, and AWS Support needs days to restore access. It
--   also keeps IAM policies, permission sets and break-glass roles without any say.
-- fix: >-
--   No statement gives the account itself (arn:aws:iam::ACCOUNT:root) kms:PutKeyPolicy. Add the statement that AWS
--   puts into new keys, with kms:* for the account: it lets nobody in by itself, but lets IAM policies of the account
--   decide. Check first which IAM policies allow kms:* on all keys, since they take effect then. Where that is not
--   wanted, delegate the administration only.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the statement "Enable IAM User Permissions".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   The argument policy of aws_kms_key (or the resource aws_kms_key_policy): add a statement with principals
--   identifiers = ["arn:aws:iam::ACCOUNT:root"], actions = ["kms:*"], resources = ["*"].
WITH analysed AS (
  SELECT key_arn, min(analysis_id) AS analysis_id FROM access_paths WHERE path = 'policy' GROUP BY key_arn
), held AS (
  SELECT analysis_id,
    bool_or(access = 'owner_delegated' AND list_contains(operations, 'kms:PutKeyPolicy')) AS delegated,
    bool_or(list_contains(operations, 'kms:PutKeyPolicy')
      AND (access = 'owner_delegated' OR principal = '*')) AS whole,
    bool_or(list_contains(operations, 'kms:PutKeyPolicy')) AS managed,
    bool_or(access = 'owner_delegated') AS part
  FROM access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
  GROUP BY analysis_id
), untold AS (
  SELECT key_arn, min(reason) AS reason
  FROM access_paths
  WHERE path = 'policy' AND access = 'unknown'
    AND (analysis_id IS NULL OR principal = '*' OR coalesce(principal_account, regexp_extract(principal,
      '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1)) = split_part(key_arn, ':', 5))
  GROUP BY key_arn
)
SELECT k.key_arn AS resource_arn, k.account_id, k.region, k.key_arn,
  CASE
    WHEN NOT coalesce(h.whole, false) AND (u.key_arn IS NOT NULL OR NOT k.policy_known) THEN 'unknown'
    WHEN k.policy_known AND NOT coalesce(h.whole, false) THEN 'fail'
    WHEN h.whole THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN h.delegated THEN 'The policy leaves the decision to IAM of account ' || k.account_id || '.'
    WHEN h.whole THEN 'Every principal of account ' || k.account_id || ' can change the policy.'
    WHEN u.key_arn IS NOT NULL THEN 'It is not known whether IAM of account ' || k.account_id || ' has a say: '
      || u.reason || '.'
    WHEN NOT k.policy_known THEN 'It is not known whether IAM of account ' || k.account_id
      || ' has a say: the policy was not read.'
    WHEN h.part THEN 'The policy leaves some decisions to IAM of account ' || k.account_id
      || ', but not who may change it (kms:PutKeyPolicy).'
    ELSE 'No statement leaves the decision to IAM of account ' || k.account_id || '.'
  END || CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
    THEN ' This is the last known policy.' ELSE '' END AS reason
FROM keys k
LEFT JOIN analysed a ON a.key_arn = k.key_arn
LEFT JOIN held h ON h.analysis_id = a.analysis_id
LEFT JOIN untold u ON u.key_arn = k.key_arn
WHERE k.manager IS DISTINCT FROM 'AWS'
