"""`modeldeploy report`: one rollout as a page that stands alone."""
