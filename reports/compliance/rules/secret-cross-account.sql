-- id: secret-cross-account
-- title: No secret can be read from accounts that nobody chose
-- severity: high
-- family: secrets
-- why: >-
--   A resource policy can let another account read a secret; from then on that account decides who does. Inside the
--   organization that is a way to share, outside of it you have to know whom you gave it to.
-- fix: >-
--   Remove the statement, or narrow it to the role that needs the secret. If the sharing is intended, allow it with the
--   rule's parameter, or waive it with a ticket. After removing a stranger's access, rotate the secret: its value was
--   readable.
-- console: >-
--   In Secrets Manager open the secret and change the policy under "Resource permissions", "Edit permissions".
-- cli: |-
--   aws secretsmanager get-resource-policy --secret-id SECRET_ARN
--   aws secretsmanager put-resource-policy --secret-id SECRET_ARN --resource-policy file://POLICY.json
-- terraform: >-
--   Change the policy of the resource aws_secretsmanager_secret_policy, or remove that resource.
-- parameters:
--   allow:
--     default: "organization"
--     about: >-
--       Which other accounts may read: organization (those of the organization), parties (known parties as well) or
--       none.
WITH reading AS (
  SELECT resource_arn, effect, party, coalesce(party_name, principal_account, principal) AS who,
    len(condition_keys) > 0 AS narrowed
  FROM resource_principals
  WHERE not_actions <> (len(list_filter(actions,
    lambda action: 'secretsmanager:getsecretvalue' GLOB lower(action))) > 0)
), summed AS (
  SELECT resource_arn,
    bool_or(effect = 'Deny') AS denies,
    bool_or(effect = 'Allow' AND party = 'public' AND NOT narrowed) AS everyone,
    bool_or(effect = 'Allow' AND party = 'public' AND narrowed) AS some,
    bool_or(effect = 'Allow' AND party = 'unknown') AS unclear,
    bool_or(effect = 'Allow' AND party = 'own organization') AS ours,
    bool_or(effect = 'Allow' AND party = 'known party') AS parties,
    bool_or(effect = 'Allow' AND party = 'outside account') AS outside,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'own organization')), ', ') AS our_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'known party')), ', ') AS party_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'outside account')), ', ') AS outside_names,
    array_to_string(list_sort(list(DISTINCT who) FILTER (effect = 'Allow'
      AND party = 'unknown')), ', ') AS unclear_names
  FROM reading
  GROUP BY resource_arn
), secret AS (
  SELECT r.*, p.known AS policy_known, p.reason AS policy_reason, p.has_policy, p.readable,
    coalesce(n.denies, false) AS denies, coalesce(n.everyone, false) AS everyone, coalesce(n.some, false) AS some,
    coalesce(n.unclear, false) AS unclear, coalesce(n.ours, false) AS ours, coalesce(n.parties, false) AS parties,
    coalesce(n.outside, false) AS outside, n.our_names, n.party_names, n.outside_names, n.unclear_names
  FROM resources r
  LEFT JOIN resource_policies p ON p.resource_arn = r.resource_arn
  LEFT JOIN summed n ON n.resource_arn = r.resource_arn
  WHERE r.resource_type = 'AWS::SecretsManager::Secret'
)
SELECT
  s.resource_arn, s.account_id, s.region, CAST(NULL AS VARCHAR) AS key_arn,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'not_applicable'
    WHEN s.policy_known IS NULL THEN 'unknown'
    WHEN s.policy_known = 'no' THEN 'unknown'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'unknown'
    WHEN (s.everyone OR s.outside OR (s.parties AND $allow IN ('organization', 'none')) OR (s.ours
      AND $allow = 'none')) AND s.denies THEN 'unknown'
    WHEN s.everyone THEN 'fail'
    WHEN s.outside THEN 'fail'
    WHEN s.parties AND $allow IN ('organization', 'none') THEN 'fail'
    WHEN s.ours AND $allow = 'none' THEN 'fail'
    WHEN s.some OR s.unclear THEN 'unknown'
    WHEN NOT s.has_policy THEN 'pass'
    WHEN s.ours OR s.parties THEN 'pass'
    WHEN s.has_policy THEN 'pass'
    ELSE 'unknown'
  END AS status,
  CASE
    WHEN s.deletion_at IS NOT NULL THEN 'The secret is about to be deleted: nobody can read it.'
    WHEN s.policy_known IS NULL THEN 'Its resource policy was not read.'
    WHEN s.policy_known = 'no'
      THEN 'Its resource policy could not be read' || coalesce(': ' || s.policy_reason, '') || '.'
    WHEN s.has_policy AND s.readable IS NOT TRUE THEN 'Its resource policy has parts that could not be understood.'
    WHEN (s.everyone OR s.outside OR (s.parties AND $allow IN ('organization', 'none')) OR (s.ours
      AND $allow = 'none')) AND s.denies
      THEN 'Its policy lets others read it (' || concat_ws(', ', CASE WHEN s.everyone
      THEN 'everyone' END, s.outside_names, s.party_names, s.our_names)
      || '); a Deny in it takes some of that away, which is not judged here.'
    WHEN s.everyone THEN 'Its policy allows everyone to read it.'
    WHEN s.outside THEN 'Its policy lets accounts outside the organization read it: ' || s.outside_names || '.'
    WHEN s.parties AND $allow IN ('organization', 'none')
      THEN 'Its policy lets a known party read it: ' || s.party_names || '.'
    WHEN s.ours AND $allow = 'none'
      THEN 'Its policy lets other accounts of the organization read it: ' || s.our_names || '.'
    WHEN s.some OR s.unclear
      THEN 'It is not known whom its policy lets read it: '
      || coalesce(s.unclear_names, 'everyone, under conditions that are not judged here') || '.'
    WHEN NOT s.has_policy THEN 'It has no resource policy.'
    WHEN s.ours OR s.parties
      THEN 'Its policy lets only chosen accounts read it: ' || concat_ws(', ', s.our_names, s.party_names) || '.'
    WHEN s.has_policy THEN 'Its policy lets no other account read it.'
    ELSE 'What its policy says is not known to this rule.'
  END || CASE WHEN s.known <> 'yes' THEN ' This is the last known state.' ELSE '' END AS reason
FROM secret s
WHERE s.resource_type IN ('AWS::SecretsManager::Secret')
