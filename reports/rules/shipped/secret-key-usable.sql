-- id: secret-key-usable
-- title: The key of every secret can be used
-- severity: critical
-- family: secrets
-- why: >-
--   A secret whose key is disabled, gone or out of reach cannot be read: the applications that need it fail at their
--   next start, often long after the key was switched off. Until the key is deleted it is easy to undo; afterwards the
--   secret is lost.
-- fix: >-
--   Cancel the deletion of the key, which leaves it disabled, and enable it. If the key is to go, put the secret under
--   another key first, while the old one still works, and remember that older versions stay under the old key. A secret
--   whose key no longer exists cannot be saved: create it anew with a value from its source.
-- console: >-
--   In KMS open the key and choose "Key actions", "Cancel key deletion" or "Enable"; to change the key, open the secret
--   in Secrets Manager and choose "Actions", "Edit encryption key".
-- cli: |-
--   aws kms cancel-key-deletion --key-id KEY_ARN
--   aws kms enable-key --key-id KEY_ARN
--   aws secretsmanager update-secret --secret-id SECRET_ARN --kms-key-id OTHER_KEY_ARN
-- terraform: >-
--   Set is_enabled = true in the resource aws_kms_key, or kms_key_id of the aws_secretsmanager_secret to another key;
--   Terraform cannot cancel a deletion.
SELECT resource_arn, account_id, region, key_arn,
  CASE usability WHEN 'no_key' THEN 'not_applicable' WHEN 'unusable' THEN 'fail' WHEN 'usable' THEN 'pass'
    ELSE 'unknown' END AS status,
  reason || stale_note AS reason
FROM key_usability
WHERE resource_type = 'AWS::SecretsManager::Secret'
