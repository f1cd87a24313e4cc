-- The regions of the coverage matrix.
SELECT region FROM coverage
WHERE outcome <> 'gap' AND region <> '*'
GROUP BY region
ORDER BY region <> 'global', region
