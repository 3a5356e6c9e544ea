"""Decisions, all of them pure: what was seen and what time it is go in, what shall be comes out."""
