"""The asyncio side: dial, drive and pool connections."""
