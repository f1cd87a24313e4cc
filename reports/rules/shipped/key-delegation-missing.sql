-- id: key-delegation-missing
-- title: Key policies delegate the decision to IAM of the account
-- severity: medium
-- family: access
-- why: >-
--   A key whose policy names only individual users and roles is manageable only by them: after the last of them is
--   deleted, nobody in the account can change, disable or delete the key, and AWS Support needs days to restore access.
--   IAM policies, permission sets and break-glass roles have no effect on such a key either.
-- fix: >-
--   No statement gives the account (arn:aws:iam::ACCOUNT:root) kms:PutKeyPolicy. Add the statement that AWS puts into
--   new keys, with kms:* for the account. It allows no principal directly, but lets IAM policies of the account decide.
--   First check which IAM policies allow kms:* on all keys, since they then take effect. If that is not acceptable,
--   delegate only the administrative actions.
-- console: >-
--   In KMS, "Customer managed keys", open the key, tab "Key policy", choose "Switch to policy view" and "Edit"; add
--   the statement "Enable IAM User Permissions".
-- cli: >-
--   aws kms get-key-policy --key-id KEY_ARN --output text > policy.json; edit it; aws kms put-key-policy --key-id
--   KEY_ARN --policy file://policy.json
-- terraform: >-
--   In the policy argument of aws_kms_key (or in aws_kms_key_policy), add a statement with principals identifiers =
--   ["arn:aws:iam::ACCOUNT:root"], actions = ["kms:*"], resources = ["*"].
WITH delegation AS (
  SELECT analysis_id,
    bool_or(access = 'owner_delegated') AS partly_delegated,
    bool_or(access = 'owner_delegated' AND list_contains(operations, 'kms:PutKeyPolicy')) AS delegated,
    bool_or((access = 'owner_delegated' OR principal = '*') AND list_contains(operations, 'kms:PutKeyPolicy')) AS administrable
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
  GROUP BY analysis_id
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn, d.stale_note AS note,
  CASE
    WHEN h.delegated THEN pass('The policy delegates the decision to IAM of account ' || d.account_id || '.')
    WHEN h.administrable THEN pass('Every principal of account ' || d.account_id || ' can change the policy.')
    WHEN d.own_account_unknown_reason IS NOT NULL
      THEN unknown('Could not determine whether the policy delegates the decision to IAM of account ' || d.account_id || ': '
        || d.own_account_unknown_reason || '.')
    WHEN h.partly_delegated THEN fail('The policy delegates some decisions to IAM of account ' || d.account_id
      || ', but not changes of the policy (kms:PutKeyPolicy).')
    WHEN h.administrable IS NOT TRUE
      THEN fail('No statement delegates the decision to IAM of account ' || d.account_id || '.')
  END AS verdict
FROM internal.key_policy_unknowns d
LEFT JOIN delegation h ON h.analysis_id = d.analysis_id
