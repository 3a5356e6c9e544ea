"""The node, which runs pods as processes."""
