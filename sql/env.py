"""How Alembic runs the migrations: on the connection, and in the transaction, that llmser_tasks.warehouse hands it."""

from alembic import context

from llmser_tasks.warehouse.engine import SCHEMA

context.configure(connection=context.config.attributes["connection"], version_table_schema=SCHEMA)
context.run_migrations()
