-- The frameworks with the number of their controls in each status.
SELECT *, passed AS pass, failed AS fail FROM frameworks ORDER BY title, version, framework
