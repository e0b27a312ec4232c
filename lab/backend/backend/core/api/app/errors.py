"""The one error that a dependency's code raises on purpose."""


class DependencyError(Exception):
    """A dependency does not do its part; the text is written for an operator and holds no secret."""
