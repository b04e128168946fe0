"""What everything else stands on: errors, progress, text, settings, the artefact store. Imports nothing above it."""
