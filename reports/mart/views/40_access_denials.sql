-- The denied calls of the crawl, with the denied identity and where to fix it. Other failures are in coverage.
--: account_id | The account in which the call was made.
--: account_name | Its name.
--: region | The region; global for services without regions, * for an account that could not be accessed.
--: role | The role (or user) that was denied; NULL if AWS did not name it.
--: action | The IAM action that was denied.
--: subject | The ARN or name in the request; empty if a whole listing is missing.
--: key_arn | The subject, if it is a key.
--: key_alias | The first alias of that key.
--: cause | The cause, as a code.
--: cause_text | The cause in words.
--: fix_in | Where to fix it: key_policy, resource_policy, role_policy, trust_policy, caller_policy, service_control_policy, resource_control_policy, session_policy, permissions_boundary or denying_policy.
--: policy_arn | The policy that denied the call, if AWS named it.
--: code | The error code from AWS.
--: message | The error message from AWS.
--: since_run | The run since which the call has been denied.
--: since | When that run began.
WITH denied AS (
  SELECT account_id, region, service, action, subject, cause, code, message, valid_from
  FROM internal.gap g
  WHERE internal.known(g.valid_from, g.valid_to, as_of_run)
  UNION ALL
  SELECT split_part(u.key_arn, ':', 5), split_part(u.key_arn, ':', 4), 'kms', u.action, u.key_arn, u.cause, u.code, u.message,
    u.valid_from
  FROM internal.key_last_use_gap u
  WHERE internal.known(u.valid_from, u.valid_to, as_of_run)
), fix_location AS (
  SELECT unnest(['key_policy', 'role_permission', 'service_control_policy', 'resource_control_policy', 'session_policy',
      'permissions_boundary', 'explicit_deny', 'denied', 'role_missing_or_untrusted', 'trust', 'external_id',
      'assume_role_permission']) AS cause,
    unnest(['key_policy', 'role_policy', 'service_control_policy', 'resource_control_policy', 'session_policy',
      'permissions_boundary', 'denying_policy', 'role_policy', 'trust_policy', 'trust_policy', 'trust_policy',
      'caller_policy']) AS fix_in
), named AS (
  SELECT r.*, p.fix_in, regexp_extract(r.message, 'arn:[a-z-]+:(?:iam|sts)::[0-9]{12}:[^ ,;]+') AS caller,
    regexp_extract(r.message, 'arn:[a-z-]+:(?:organizations|iam)::[^ ,;]*policy/[^ ,;]+') AS policy_arn
  FROM denied r JOIN fix_location p ON p.cause = r.cause
), alias AS (
  SELECT target_key_arn AS key_arn, min(alias_name) AS alias_name
  FROM internal.alias a
  WHERE internal.known(a.valid_from, a.valid_to, as_of_run) AND target_key_arn IS NOT NULL
  GROUP BY target_key_arn
)
SELECT n.account_id, c.name AS account_name, n.region,
  CASE WHEN n.caller LIKE '%:assumed-role/%' THEN regexp_replace(replace(n.caller, ':sts:', ':iam:'),
    ':assumed-role/([^/]+).*', ':role/\1') ELSE nullif(n.caller, '') END AS role,
  n.action, n.subject,
  CASE WHEN n.service = 'kms' AND n.subject LIKE 'arn:%:key/%' THEN n.subject END AS key_arn, a.alias_name AS key_alias,
  n.cause, z.text AS cause_text,
  CASE WHEN n.fix_in = 'key_policy' AND n.service <> 'kms' THEN 'resource_policy' ELSE n.fix_in END AS fix_in,
  nullif(n.policy_arn, '') AS policy_arn, n.code, n.message, n.valid_from AS since_run, r.started_at AS since
FROM named n
LEFT JOIN alias a ON a.key_arn = n.subject
LEFT JOIN internal.gap_cause z ON z.cause = n.cause
LEFT JOIN internal.account c ON c.account_id = n.account_id AND internal.known(c.valid_from, c.valid_to, as_of_run)
LEFT JOIN internal.run r ON r.run_id = n.valid_from
