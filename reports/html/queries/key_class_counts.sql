-- References to keys by service and key class.
SELECT service, key_class, count(*) AS "references"
FROM resource_keys
GROUP BY service, key_class
ORDER BY service, key_class
