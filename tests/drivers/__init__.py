"""What the core promises, on real drivers: psycopg2 with a PostgreSQL, sqlite3 with a file."""
