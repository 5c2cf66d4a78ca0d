"""The programs of examples/ run on a real PostgreSQL and do what they promise."""
