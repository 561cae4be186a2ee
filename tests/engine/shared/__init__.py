"""What holds for every backend that processes share."""
