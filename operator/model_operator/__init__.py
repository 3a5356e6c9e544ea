"""The modeldeploy operator: makes Deployments, Services and a traffic split out of ModelDeployments."""
