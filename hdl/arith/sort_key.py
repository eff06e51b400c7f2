"""Keys by which the words of an accumulator or a lane are in order as unsigned integers."""

from amaranth.hdl import Cat, Value

__all__ = ["exact_key", "float_key", "float_word", "integer_key"]


def float_key(word: Value) -> Value:
    """The key of a float: negative words complemented, positive ones above them.

    +0 is above −0, and a positive NaN above infinity.
    """
    return Cat(word[:-1] ^ word[-1].replicate(len(word) - 1), ~word[-1])


def float_word(key: Value) -> Value:
    """The float whose key is ``key``."""
    return Cat(key[:-1] ^ (~key[-1]).replicate(len(key) - 1), ~key[-1])


def integer_key(word: Value) -> Value:
    """The key of a number in two's complement. The same step leads back."""
    return Cat(word[:-1], ~word[-1])


def exact_key(word: Value) -> Value:
    """The key of an ``exact`` word (``ExactAccumulator``): two's complement below a NaR bit, which
    wins. The same step leads back from the key to the word."""
    return Cat(word[:-2], ~word[-2], word[-1])
