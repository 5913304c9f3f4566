"""The HTTP/2 protocol without I/O: bytes and the present time go in, bytes and calls come out."""
