-- id: key-lockout
-- title: Somebody can manage every key
-- severity: high
-- family: access
-- why: >-
--   Nobody is left in the account whom the policy allows to change it: the key cannot be shared, closed, disabled or
--   deleted any more, and it is billed for ever. Mostly the only administrator was deleted; a role of the same name
--   that is made again does not get the access back.
-- fix: >-
--   The only principals with kms:PutKeyPolicy are deleted, a Deny without exception stops them, or the statement has
--   no Resource and therefore no effect. Nobody in the account can mend this: open a case with AWS Support from the
--   account, which restores the access of the root user after identity checks; that takes days. Meanwhile copy the
--   data under another key while those who may use the key still can.
-- console: >-
--   Support Center of the account: create a case for Key Management Service that names the key ARN.
-- cli: >-
--   aws support create-case --service-code key-management-service --subject "Unmanageable KMS key"
--   --communication-body "KEY_ARN" (needs a support plan)
-- terraform: >-
--   Terraform cannot mend it: it would need kms:PutKeyPolicy itself. Later keep bypass_policy_lockout_safety_check =
--   false in aws_kms_key.
WITH managed AS (
  SELECT DISTINCT analysis_id
  FROM internal.access_verdicts
  WHERE path = 'policy' AND access IN ('owner_delegated', 'owner_direct')
    AND list_contains(operations, 'kms:PutKeyPolicy')
), locked AS (
  SELECT key_arn, min(message) AS message FROM key_policy_problems WHERE code = 'lock_out' GROUP BY key_arn
)
SELECT d.key_arn AS resource_arn, d.account_id, d.region, d.key_arn,
  CASE WHEN l.key_arn IS NOT NULL THEN 'fail' WHEN m.analysis_id IS NOT NULL THEN 'pass' ELSE 'unknown' END AS status,
  CASE
    WHEN l.key_arn IS NOT NULL THEN l.message
    WHEN m.analysis_id IS NOT NULL THEN 'Somebody of account ' || d.account_id || ' can change the policy.'
    ELSE 'It is not known whether anyone can change the policy: ' || coalesce(d.own_account_unknown_reason, 'it was not read') || '.'
  END || d.stale_note AS reason
FROM internal.key_policy_unknowns d
LEFT JOIN managed m ON m.analysis_id = d.analysis_id
LEFT JOIN locked l ON l.key_arn = d.key_arn
