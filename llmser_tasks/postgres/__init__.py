"""An own Postgres server, as a process."""
