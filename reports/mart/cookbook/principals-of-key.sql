-- title: Users and roles that reach a key through IAM
-- topic: access
-- question: >-
--   Which IAM users and roles can use this key through policies of the account?
-- answer: >-
--   One row for each user or role, policy and certainty; needs crawl.iam. Service and resource control policies are
--   not looked at: they can take away more.
-- parameters:
--   key: {about: "the key: its ARN, its id or one of its aliases (alias/orders)"}
SELECT access, principal, via AS policy, operations, reason
FROM key_access_iam
WHERE key_arn IN (
  SELECT key_arn FROM keys WHERE key_arn = $key OR key_id = $key OR list_contains(aliases, $key))
ORDER BY access, principal, policy
