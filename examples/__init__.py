"""Small programs that use `dynamo_h2`; each runs as it stands: `python -m examples.<name>`."""
