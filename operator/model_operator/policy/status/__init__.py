"""Output for users: conditions, the status message, Events and notifications. Pure."""
