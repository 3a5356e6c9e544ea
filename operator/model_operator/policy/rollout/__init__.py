"""The rollout: its state machine, its sizes, its traffic, and when to look again. Pure."""
