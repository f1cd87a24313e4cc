-- The controls of one framework, in its own order.
SELECT * FROM framework_controls WHERE framework = $framework
