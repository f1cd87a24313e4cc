-- The rotations that keys had.
--: key_arn | The key.
--: rotated_at | When it rotated.
--: rotation_type | AUTOMATIC or ON_DEMAND.
--: key_material_id | The material that came with it.
--: key_material_state | Whether that material is the current one.
SELECT e.key_arn, e.rotated_at, e.rotation_type, e.key_material_id, e.key_material_state
FROM internal.key_rotation_event e
WHERE internal.known(e.valid_from, e.valid_to, as_of_run)
