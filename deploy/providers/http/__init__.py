"""HTTP/2 frame by frame and HTTP/1.1, so that a test can script every fault."""
