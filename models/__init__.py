"""The database of the ledger: tables, history, engine, settings."""
