"""What users read: conditions, the status message, Events and notifications. Pure."""
