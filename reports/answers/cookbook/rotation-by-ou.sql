-- title: Keys without rotation by organizational unit
-- topic: posture
-- question: >-
--   Where are keys that do not rotate?
-- answer: >-
--   Customer managed symmetric keys whose automatic rotation is off, by organizational unit, with those of which it
--   is not known. Keys to which rotation does not apply are not counted.
SELECT a.ou_path, count(*) FILTER (k.rotation_status = 'disabled') AS without_rotation, count(*) FILTER (k.rotation_status = 'enabled') AS rotating,
  count(*) FILTER (k.rotation_status IS NULL) AS not_known, count(DISTINCT k.account_id) FILTER (k.rotation_status = 'disabled') AS accounts,
  sum(k.dependent_resources) FILTER (k.rotation_status = 'disabled') AS uses
FROM keys k
LEFT JOIN accounts a ON a.account_id = k.account_id
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.rotation_status IS DISTINCT FROM 'not_applicable'
  AND coalesce(k.state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
GROUP BY a.ou_path
ORDER BY without_rotation DESC, a.ou_path
