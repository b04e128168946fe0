"""The subcommands of `llmser`, one module each."""
