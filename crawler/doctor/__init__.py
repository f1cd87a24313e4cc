"""The command `kmsledger doctor`: tries what a crawl needs, and names the fix for everything that does not work."""
