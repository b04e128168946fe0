"""How Alembic runs the migrations: on the connection, and in the transaction, that llmser_tasks.warehouse hands it."""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table_schema=given["schema"])
context.run_migrations()
