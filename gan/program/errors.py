"""What cannot be made a program of."""


class Unfit(Exception):
    """A run cannot be trained this way, for the reason that the message gives."""
