-- title: Secrets with the AWS managed key
-- topic: posture
-- question: >-
--   Which accounts encrypt secrets with aws/secretsmanager, whose policy cannot be changed?
-- answer: >-
--   Secrets by account and key class. Secrets with the AWS managed key cannot be shared with other accounts, and
--   their decryption cannot be restricted.
SELECT account_name, account_id, count(*) FILTER (key_class = 'aws_managed') AS aws_managed,
  count(*) FILTER (key_class = 'customer') AS customer, count(*) FILTER (key_class NOT IN ('aws_managed', 'customer')) AS other,
  list_sort(list(resource_name) FILTER (key_class = 'aws_managed'))[1:5] AS sample_secrets
FROM resource_keys
WHERE resource_type = 'AWS::SecretsManager::Secret'
GROUP BY account_name, account_id
ORDER BY aws_managed DESC, account_id
