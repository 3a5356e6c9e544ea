"""Pure decision functions: (spec, status, observation, now) -> (status, plan)."""
