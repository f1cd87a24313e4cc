-- The customer managed keys and the keys that could not be described, with notes on the limits of what is known about them.
--! internal
--! columns of keys
--: stale_note | A sentence to append to a reason if its description is that of an earlier run; empty text otherwise.
--: rotation_note | The same for its description and its rotation.
--: tags_note | The same for its description and its tags.
SELECT *,
  CASE WHEN freshness = 'stale' THEN ' This is the last known state.' ELSE '' END AS stale_note,
  -- A rotation is also read by operations of its own.
  CASE
    WHEN freshness = 'stale' OR (rotation_status IS NOT NULL AND list_contains(denied_actions, 'kms:GetKeyRotationStatus'))
      OR (last_rotated_at IS NOT NULL AND list_contains(denied_actions, 'kms:ListKeyRotations'))
      THEN ' This is the last known state.' ELSE '' END AS rotation_note,
  CASE WHEN freshness = 'stale' OR (tags IS NOT NULL AND list_contains(denied_actions, 'kms:ListResourceTags'))
    THEN ' This is the last known state.' ELSE '' END AS tags_note
FROM keys_as_of(as_of_run)
WHERE manager IS DISTINCT FROM 'AWS'
