"""An AWS of our own for tests and benchmarks: a generated organization, fast, and able to misbehave.

`benchmarks.fake_aws.client.FakeAws` starts it, `python -m benchmarks.fake_aws --help` does so by hand. It answers the read-only
operations that the crawler sends, and kms:GetKeyLastUsage, on one endpoint for all services, regions and accounts.
"""
