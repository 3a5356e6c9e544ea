"""The analysis of a canary: one test for each kind of metric, and one verdict. Pure."""
