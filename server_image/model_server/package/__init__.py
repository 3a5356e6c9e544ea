"""A model package on disk: what it says about itself, whether it may be loaded, and as what."""
