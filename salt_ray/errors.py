"""What a person can put right."""


class SaltRayError(Exception):
    """The base of every error whose message is one clear sentence with its remedy; shown without a traceback."""


class RunError(SaltRayError):
    """A run directory cannot be used; the message says what to do."""
