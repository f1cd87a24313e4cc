-- What is not known of each customer managed key's policy, question by question: each answer is a clause that says why it is not known, and empty where it is known.
--! stored
--: key_arn | The key.
--: account_id | Its account.
--: region | Its region.
--: analysis_id | Of the analysis of its policy, as in access_verdicts; empty when there is none.
--: unread | Why it is not known what the policy says; empty when it was read and analysed.
--: unclear | Why it is not known what every statement says: as unread, or a part of the policy cannot be read.
--: everyone | Why it is not known whether a statement lets everyone in.
--: outsiders | Why it is not known whether a statement lets in an account that is not ours.
--: own_account | Why it is not known what the policy leaves to principals of the key's own account.
--: services | Why it is not known for whom AWS services may use the key.
--: stale | A sentence to put behind an answer from the policy, when the run could not read it again and it is the last known one; else an empty text.
WITH doubt AS (
  SELECT key_arn, position, principal, coalesce(reason, 'no reason was given') AS reason, analysis_id IS NULL AS unread,
    CASE WHEN principal <> '*' THEN coalesce(principal_account,
      regexp_extract(principal, '^arn:[a-z-]+:(?:iam|sts)::([0-9]{12}):', 1)) END AS account
  FROM access_paths_as_of(as_of_run)
  WHERE path = 'policy' AND access = 'unknown'
), doubted AS (
  -- From a list, so that these are taken for few: the joins below then begin with them and not with every key's principals.
  SELECT unnest(list(DISTINCT key_arn)) AS key_arn FROM doubt WHERE principal = '*' AND position IS NOT NULL
), party AS (
  SELECT n.key_arn, n.source_id,
    bool_and(n.party IN ('own account', 'own organization', 'aws service', 'deleted principal') AND n.principal <> '*') AS ours
  FROM key_principals_as_of(as_of_run) n
  JOIN doubted d ON d.key_arn = n.key_arn
  WHERE n.source = 'policy'
  GROUP BY n.key_arn, n.source_id
), statement AS (
  -- Whatever is not known of a statement that names its principals, it lets nobody else in.
  SELECT s.key_arn, s.position, coalesce(n.ours, false) AS ours,
    s.principal_kind = 'Principal' AND NOT list_contains(s.principals, '*') AS named
  FROM doubted d
  JOIN key_policy_statements_as_of(as_of_run) s ON s.key_arn = d.key_arn
  JOIN key_policies_as_of(as_of_run) p ON p.key_arn = s.key_arn AND p.readable
  LEFT JOIN party n ON n.key_arn = s.key_arn AND n.source_id = coalesce(s.sid, '#' || s.position)
), told AS (
  SELECT d.key_arn,
    min(d.reason) FILTER (d.unread) AS unread,
    min(d.reason) FILTER (d.principal = '*' AND s.named IS NOT TRUE) AS everyone,
    min(d.reason) FILTER ((d.principal = '*' AND s.ours IS NOT TRUE) OR (d.principal <> '*' AND o.account_id IS NULL)) AS outsiders,
    min(d.reason) FILTER (d.principal = '*' OR d.account = split_part(d.key_arn, ':', 5)) AS own_account,
    min(d.reason) FILTER (d.principal = '*'
      OR regexp_matches(d.principal, '^[a-z0-9.-]+[.](amazonaws|aws|amazon)[.]')) AS services
  FROM doubt d
  LEFT JOIN statement s ON s.key_arn = d.key_arn AND s.position = d.position
  LEFT JOIN accounts_as_of(as_of_run) o ON o.account_id = d.account AND o.state IS DISTINCT FROM 'LEFT'
  GROUP BY d.key_arn
), broken AS (
  SELECT p.key_arn, 'a part of the policy cannot be read' AS reason
  FROM ledger.key_policy p
  JOIN ledger.policy x ON x.policy_hash = p.policy_hash AND NOT x.readable
  WHERE ledger.known(p.valid_from, p.valid_to, as_of_run)
), weighed AS (
  SELECT k.key_arn, k.account_id, k.region, a.analysis_id, t.everyone, t.outsiders, t.own_account, t.services, b.reason AS broken,
    coalesce(t.unread, CASE WHEN NOT k.policy_known THEN 'the policy was not read' END) AS unread,
    CASE WHEN k.known <> 'yes' AND (len(k.unknown) = 0 OR list_contains(k.unknown, 'kms:GetKeyPolicy'))
      THEN ' This is the last known policy.' ELSE '' END AS stale
  FROM keys_as_of(as_of_run) k
  LEFT JOIN ledger.key_analysis a ON a.key_arn = k.key_arn AND ledger.known(a.valid_from, a.valid_to, as_of_run)
  LEFT JOIN told t ON t.key_arn = k.key_arn
  LEFT JOIN broken b ON b.key_arn = k.key_arn
  WHERE k.manager IS DISTINCT FROM 'AWS'
)
SELECT key_arn, account_id, region, analysis_id, unread, coalesce(broken, unread) AS unclear,
  coalesce(unread, everyone) AS everyone, coalesce(unread, outsiders) AS outsiders,
  coalesce(unread, own_account) AS own_account, coalesce(unread, services) AS services, stale
FROM weighed
