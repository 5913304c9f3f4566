"""What flow control, sending and keep-alive are worth on links that are slow, long or dead."""
