"""Services and gateways on loopback addresses."""
