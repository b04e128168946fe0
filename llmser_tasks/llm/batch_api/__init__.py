"""Questions through a provider's Batch API."""
