"""`modeldeploy serve`: one machine without a cluster, and new packages judged before they answer anybody."""
