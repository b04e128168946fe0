"""What the page in Airflow asks the warehouse: one module a part of the page, rows as plain dicts.

Every statement reads by an index what it shows and no more, however many users and runs there are.
"""
