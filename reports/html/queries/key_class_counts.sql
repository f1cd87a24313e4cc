-- References to keys by service and kind of key.
SELECT service, key_class, count(*) AS uses
FROM resource_keys
GROUP BY service, key_class
ORDER BY service, key_class
