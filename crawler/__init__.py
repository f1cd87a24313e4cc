"""AWS turned into facts; interprets nothing."""
