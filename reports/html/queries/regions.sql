-- The regions of the coverage matrix: those that were to be read somewhere, or that hold keys as last known.
SELECT region FROM coverage
WHERE outcome <> 'gap' AND region <> '*'
GROUP BY region
HAVING bool_or(outcome NOT IN ('excluded', 'disabled')) OR region IN (SELECT region FROM keys)
ORDER BY region <> 'global', region
