-- The resources that use a key.
SELECT DISTINCT u.service, u.resource_name AS name, s.status, u.resource_arn
FROM resource_keys u LEFT JOIN resources s ON s.resource_arn = u.resource_arn
WHERE u.key_arn = $key_arn ORDER BY u.service, name, u.resource_arn
