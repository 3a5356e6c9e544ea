"""The person's tool: `modeldeploy`, also as `kubectl modeldeploy`."""
