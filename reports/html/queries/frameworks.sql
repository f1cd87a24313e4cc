-- The frameworks with how many of their controls have which status.
SELECT * FROM frameworks ORDER BY title, version, framework
