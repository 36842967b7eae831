"""The two ways in which a user's request can fail, and the exit codes they stand for."""


class BadInputError(ValueError):
    """What was asked for cannot be done as asked: the command line exits with 2, nothing written.

    The message names the field, the offending value, what is allowed and what to do.
    """


class RunFailedError(RuntimeError):
    """A well-formed request failed while it was carried out: the command line exits with 1."""
