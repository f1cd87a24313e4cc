-- title: Keys without rotation by organizational unit
-- topic: hygiene
-- question: >-
--   Where are keys that do not rotate?
-- answer: >-
--   Customer managed symmetric keys whose automatic rotation is off, by organizational unit, with those of which it
--   is not known. Keys to which rotation does not apply are not counted.
SELECT a.ou_path, count(*) FILTER (k.rotation = 'off') AS without_rotation, count(*) FILTER (k.rotation = 'on') AS rotating,
  count(*) FILTER (k.rotation IS NULL) AS not_known, count(DISTINCT k.account_id) FILTER (k.rotation = 'off') AS accounts,
  sum(k.used_by) FILTER (k.rotation = 'off') AS uses
FROM keys k
LEFT JOIN accounts a ON a.account_id = k.account_id
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.rotation IS DISTINCT FROM 'not_applicable'
  AND coalesce(k.state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
GROUP BY a.ou_path
ORDER BY without_rotation DESC, a.ou_path
