-- id: iam-not-read
-- title: The IAM policies of every account are read
-- severity: info
-- family: coverage
-- why: >-
--   Most key policies delegate the decision to IAM of the account. Without its users, roles and policies, the question
--   "who can decrypt this" is only half answered.
-- fix: >-
--   Allow iam:GetAccountAuthorizationDetails for the role of kmsledger in the account. If IAM should not be read,
--   configure that in the settings (crawl.iam); this rule then does not apply.
-- console: >-
--   In the IAM console of the account, open the role of kmsledger and compare its trust policy and permissions with the
--   output of `kmsledger permissions`. In Organizations, look for a service control policy that denies the call.
-- cli: >-
--   aws iam simulate-principal-policy --policy-source-arn ROLE_ARN --action-names iam:GetAccountAuthorizationDetails
-- terraform: >-
--   Add iam:GetAccountAuthorizationDetails to the policy of the aws_iam_role of kmsledger.
-- parameters:
--   consecutive_runs:
--     default: "2"
--     about: >-
--       Number of consecutive failed runs after which the rule fails.
WITH denied_calls AS (
  SELECT account_id, max(consecutive_runs) AS consecutive_runs, min(since) AS since, min(cause_text) AS cause
  FROM coverage
  WHERE outcome = 'gap' AND service = 'iam' AND operation = 'GetAccountAuthorizationDetails'
    AND cause NOT IN ('disabled_by_config', 'unsupported')
  GROUP BY account_id
)
SELECT i.account_id AS resource_arn, i.account_id, 'global' AS region, NULL AS key_arn,
  CASE
    WHEN a.coverage = 'excluded' THEN not_applicable('The account is excluded in the settings.')
    WHEN a.coverage IN ('suspended', 'left') THEN not_applicable('The account is ' || a.coverage || '.')
    WHEN r.account_id IS NULL AND i.reason LIKE '%(crawl.iam)'
      THEN not_applicable('IAM is disabled in the settings (crawl.iam).')
    WHEN i.freshness = 'current' THEN pass('IAM was read: ' || internal.counted(i.users, 'user', 'users') || ', '
      || internal.counted(i.roles, 'role.', 'roles.'))
    WHEN r.account_id IS NOT NULL THEN fail_if(r.consecutive_runs >= CAST($consecutive_runs AS INTEGER),
      'IAM could not be read since ' || strftime(r.since, '%Y-%m-%d') || coalesce(': ' || r.cause, '') || '.')
    ELSE unknown('IAM was not read' || coalesce(': ' || i.reason, '') || '.')
  END AS verdict
FROM iam_accounts i
LEFT JOIN accounts a ON a.account_id = i.account_id
LEFT JOIN denied_calls r ON r.account_id = i.account_id
