-- References to keys by service and kind of key.
SELECT service, key_class, count(*) AS uses
FROM key_usage
GROUP BY service, key_class
ORDER BY service, key_class
