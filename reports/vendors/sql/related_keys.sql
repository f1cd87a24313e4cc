-- The keys `arns` and their related multi-Region keys, which have the same ID and account.
SELECT DISTINCT b.key_arn FROM keys a
JOIN keys b ON b.account_id = a.account_id AND b.key_id = a.key_id
WHERE a.key_arn IN (SELECT unnest($arns))
