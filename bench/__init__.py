"""How much a request costs, measured beside the clients that people use today."""
