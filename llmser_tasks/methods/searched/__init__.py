"""A search among the run's methods, their settings and item tables, on validation items (Jamieson & Talwalkar 2016)."""
