-- The controls of one framework, in the order of the framework.
SELECT *, passed AS pass, failed AS fail FROM framework_controls WHERE framework = $framework
