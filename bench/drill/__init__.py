"""The fault drill: workers are rolled, killed and cut off under load, and nothing may be lost."""
