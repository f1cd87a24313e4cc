"""What other tools say of the demo's organization, beside what our rules say of it."""
