-- The controls of all frameworks, each in the order of its framework.
SELECT *, passed AS pass, failed AS fail FROM framework_controls
