"""The meter: a small proxy in front of a server that is not ours, whose answers are counted and judged as ours."""
