"""The command `kmsledger estimate`: calls, duration, use of quotas and API cost of a crawl, before it runs."""
