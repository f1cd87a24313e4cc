"""A fake AWS endpoint for tests and benchmarks: a generated organization, fast, with fault injection.

Start it with `benchmarks.fake_aws.client.FakeAws` or `python -m benchmarks.fake_aws`. It supports the read-only
operations of the crawler, and kms:GetKeyLastUsage, on one endpoint for all services, regions and accounts.
"""
