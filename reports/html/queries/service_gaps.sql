-- Open gaps by service.
SELECT service, count(*) AS gaps
FROM coverage
WHERE outcome = 'gap' AND service IS NOT NULL
GROUP BY service
ORDER BY service
