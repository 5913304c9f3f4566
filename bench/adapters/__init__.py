"""One module per client; ``bench.adapter`` has the list of them."""
