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
WITH held AS (
  SELECT analysis_id,
    bool_or(access = 'owner_delegated') AS part,
    bool_or(access = 'owner_delegated' AND list_contains(operations, 'kms:PutKeyPolicy')) AS delegated,
    bool_or((access = 'owner_delegated' OR principal = '*') AND list_contains(operations, 'kms:PutKeyPolicy')) AS whole
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
  GROUP BY analysis_id
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE
    WHEN h.whole IS NOT TRUE AND d.own_account_unknown_reason IS NOT NULL THEN 'unknown'
    WHEN h.whole IS NOT TRUE THEN 'fail'
    WHEN h.whole THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN h.delegated THEN 'The policy leaves the decision to IAM of account ' || d.account_id || '.'
    WHEN h.whole THEN 'Every principal of account ' || d.account_id || ' can change the policy.'
    WHEN d.own_account_unknown_reason IS NOT NULL
      THEN 'It is not known whether IAM of account ' || d.account_id || ' has a say: ' || d.own_account_unknown_reason || '.'
    WHEN h.part THEN 'The policy leaves some decisions to IAM of account ' || d.account_id
      || ', but not who may change it (kms:PutKeyPolicy).'
    ELSE 'No statement leaves the decision to IAM of account ' || d.account_id || '.'
  END || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN held h ON h.analysis_id = d.analysis_id
