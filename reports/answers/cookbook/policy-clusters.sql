-- title: Policies that keys share
-- topic: access
-- question: >-
--   Which key policies are the same on most keys, and which stand alone?
-- answer: >-
--   Policies by the number of keys that have them, with the account's own id taken out, so that one policy in many
--   accounts counts as one. The long tail (keys = 1) is where to look for what nobody meant.
WITH counted AS (
  SELECT policy, account_id, count(*) AS keys, min(key_arn) AS example
  FROM key_policies
  WHERE readable
  GROUP BY policy, account_id
), shaped AS (
  SELECT replace(policy, account_id, '{account}') AS shape, account_id, keys, example
  FROM counted
)
SELECT sum(keys) AS keys, count(DISTINCT account_id) AS accounts, min(example) AS example_key, shape AS policy
FROM shaped
GROUP BY shape
ORDER BY keys DESC, policy
