"""What processes that ask one endpoint share: claims, limits, budget, breaker."""
