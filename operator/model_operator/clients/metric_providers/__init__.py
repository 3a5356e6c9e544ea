"""Fetch one number from a metric provider: one file for each provider, all of them listed in `factory`."""
