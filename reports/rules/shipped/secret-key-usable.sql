-- id: secret-key-usable
-- title: The key of every secret is usable
-- severity: critical
-- family: secrets
-- why: >-
--   A secret whose key is disabled, deleted or inaccessible cannot be read. The applications that need it fail at their
--   next start, often long after the key was disabled. Until the key is deleted, this is easy to fix; afterwards, the
--   secret is lost.
-- fix: >-
--   Cancel the deletion of the key, which leaves it disabled, and enable it. To retire the key, first set another key
--   on the secret while the old one still works; older versions still use the old key. A secret whose key no longer
--   exists cannot be recovered: create it again with a value from its source.
-- console: >-
--   In KMS, open the key and choose "Key actions", "Cancel key deletion" or "Enable"; to change the key, open the
--   secret in Secrets Manager and choose "Actions", "Edit encryption key".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id OTHER_KEY_ARN
-- terraform: >-
--   Set is_enabled = true in aws_kms_key, or set kms_key_id of the aws_secretsmanager_secret to another key; Terraform
--   cannot cancel a deletion.
SELECT u.resource_arn, u.account_id, u.region, u.key_arn, u.stale_note AS note,
  usability_verdict(u.usability, u.reason || CASE u.usability WHEN 'unusable' THEN s.owner_fix ELSE '' END) AS verdict
FROM key_usability u
JOIN internal.secrets s ON s.resource_arn = u.resource_arn
