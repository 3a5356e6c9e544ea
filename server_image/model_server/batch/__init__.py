"""Predictions for a whole file: the same packages and the same code as online, in chunks that survive a kill."""
