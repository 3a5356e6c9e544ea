"""What the pages show, computed from what the API server and the pods said. PURE: the time is an argument."""
