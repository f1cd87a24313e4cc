-- The regions of the coverage matrix: regions in scope of any account, and regions with known keys.
SELECT region FROM coverage
WHERE outcome <> 'gap' AND region <> '*'
GROUP BY region
HAVING bool_or(outcome NOT IN ('excluded', 'disabled')) OR region IN (SELECT region FROM keys)
ORDER BY region <> 'global', region
