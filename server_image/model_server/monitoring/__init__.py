"""What a server notices about its model's work: inputs that drift, outputs, quality, and a log of inputs."""
