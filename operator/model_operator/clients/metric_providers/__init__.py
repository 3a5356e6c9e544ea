"""Fetch one number from a metric provider: one file a provider, all of them listed in `factory`."""
