"""Errors that a user can put right: the rule, what was received, what to do."""


class UserError(ValueError):
    """A mistake in what was asked for; shown as one message, without a traceback."""


class DataError(UserError):
    """CIFAR-10 is missing, incomplete or not what it says it is."""


class WeightsError(UserError):
    """Backbone weights are missing, corrupt or do not fit the network."""
