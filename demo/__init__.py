"""A world to try kmsledger on: an AWS organization and a mail server, both real on the wire, on this machine."""
