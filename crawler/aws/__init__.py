"""The one client to AWS: credentials, endpoints, sending, retries, and the classification of errors."""
