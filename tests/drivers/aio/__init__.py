"""The asynchronous pool on real drivers, in asyncio's own loop and in uvloop's."""
