-- title: Keys outside the allowed regions
-- topic: posture
-- question: >-
--   Which customer managed keys are outside the allowed regions?
-- answer: >-
--   Keys by account and region, in all regions that are not in the list.
-- parameters:
--   regions: {default: "eu-west-1,eu-central-1", description: "the allowed regions, separated by commas"}
SELECT region, account_name, count(*) AS keys, sum(dependent_resources) AS dependent_resources, min(created_at) AS oldest,
  max(last_used_at) AS last_used_at
FROM keys
WHERE manager = 'CUSTOMER' AND NOT list_contains(string_split(replace($regions, ' ', ''), ','), region)
GROUP BY region, account_name
ORDER BY keys DESC, region, account_name
