"""The groups of settings that every run has, one file each; `core.config` puts them together."""
