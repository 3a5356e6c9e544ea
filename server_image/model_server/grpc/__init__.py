"""The Open Inference Protocol over gRPC, on a port of its own; imported only when that port is set."""
