-- The completed rotations of keys.
--: key_arn | The key.
--: rotated_at | When the key was rotated.
--: rotation_type | AUTOMATIC or ON_DEMAND.
--: key_material_id | The ID of the new key material.
--: key_material_state | The state of that key material: whether it is the current one.
SELECT e.key_arn, e.rotated_at, e.rotation_type, e.key_material_id, e.key_material_state
FROM internal.key_rotation_event e
WHERE internal.known(e.valid_from, e.valid_to, as_of_run)
