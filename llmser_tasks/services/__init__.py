"""The project's own Postgres, embedding ranker and Airflow on this machine: `up`, `down`, `demo`, `trigger`."""
