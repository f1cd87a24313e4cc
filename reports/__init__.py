"""Facts turned into answers; never talks to AWS (mail through SES aside)."""
