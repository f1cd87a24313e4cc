"""An environment to try kmsledger in: a local AWS endpoint with an organization, and a local mail server."""
