"""From the objects of the cluster to the values that decisions look at. Pure."""
