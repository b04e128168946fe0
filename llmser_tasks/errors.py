"""The errors that a person is meant to read: one sentence saying what, where and what to do."""


class LlmserError(Exception):
    """Something the user can mend. The message is shown as it stands, without a traceback."""


class InputError(LlmserError):
    """A dump, a path or a setting cannot be used as it is."""


class StorageError(LlmserError):
    """The disk, the artefact folder or Postgres failed; the step can be rerun once it is back."""
