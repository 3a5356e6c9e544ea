"""The rollout: state machine, replica counts, routing, and requeue times. Pure."""
