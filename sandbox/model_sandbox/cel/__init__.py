"""Type checking and cost estimation of CEL, as the Kubernetes API server does them when a definition is written."""
