-- title: Keys without rotation by organizational unit
-- topic: posture
-- question: >-
--   In which organizational units are keys not rotated?
-- answer: >-
--   Customer managed symmetric keys without automatic rotation, by organizational unit, and the keys whose rotation
--   is unknown. Keys that cannot be rotated automatically are not counted.
SELECT a.ou_path, count(*) FILTER (k.rotation_status = 'disabled') AS without_rotation,
  count(*) FILTER (k.rotation_status = 'enabled') AS with_rotation,
  count(*) FILTER (k.rotation_status IS NULL) AS unknown,
  count(DISTINCT k.account_id) FILTER (k.rotation_status = 'disabled') AS accounts,
  sum(k.dependent_resources) FILTER (k.rotation_status = 'disabled') AS dependent_resources
FROM keys k
LEFT JOIN accounts a ON a.account_id = k.account_id
WHERE k.manager IS DISTINCT FROM 'AWS' AND k.rotation_status IS DISTINCT FROM 'not_applicable'
  AND coalesce(k.state, '') NOT IN ('PendingDeletion', 'PendingReplicaDeletion')
GROUP BY a.ou_path
ORDER BY without_rotation DESC, a.ou_path
