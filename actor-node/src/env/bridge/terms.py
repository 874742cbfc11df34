"""Converts environments' rewards and the contents of their `info` to numbers.

making.py follows in the same script.
"""

import math

# Maximum number of terms of an episode, and of bytes in a term's name. Terms beyond these limits are ignored.
TERMS_MAX = 64
NAME_MAX = 64
SHOWN_MAX = 60
# Terms for which the value of an episode's last step counts. For other terms, the mean over the steps counts.
AT_THE_END = ("is_success", "success")


def shown(value):
    """Returns a short description of an unexpected value."""
    shape = getattr(value, "shape", None)
    if shape:
        return f"an array of shape {tuple(shape)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} values"
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."


def reward_number(numpy, reward):
    """Converts a reward to a float. Accepts Python's and NumPy's numbers, and arrays that hold one."""
    try:
        array = numpy.asarray(reward)
        if array.size == 1 and array.dtype.kind in "fiub":
            return float(array.item())
        if array.size == 1 and array.dtype.kind == "O" and hasattr(reward, "__float__"):
            return float(reward)
    except Exception:
        pass
    raise ValueError(f"reward is {shown(reward)}, expected one number")


class Terms:
    """Named numbers of one lane's episode."""

    def __init__(self, numpy):
        self.numbers = (bool, int, float, numpy.number, numpy.bool_)
        # Types that are converted without further checks. The check runs for every number of every step.
        self.usual = frozenset((bool, int, float, numpy.float64, numpy.float32, numpy.bool_))
        # Sum, count and newest value, by name.
        self.seen = {}

    def clear(self):
        self.seen.clear()

    def add(self, info, prefix=""):
        """Adds the numbers of a step's info, including those of a dict in it. Ignores everything else."""
        seen, usual, isfinite = self.seen, self.usual, math.isfinite
        for name, value in info.items():
            if type(value) not in usual:
                if isinstance(value, dict) and not prefix:
                    self.add(value, f"{name}.")
                value = self.unusual(value)
            try:
                value = float(value)
            except OverflowError:
                continue
            if not isfinite(value):
                continue
            if prefix:
                name = prefix + str(name)
            entry = seen.get(name)
            if entry is not None:
                entry[0] += value
                entry[1] += 1
                entry[2] = value
            elif len(seen) < TERMS_MAX and 0 < len(str(name).encode()) <= NAME_MAX:
                seen[name] = [value, 1, value]

    def unusual(self, value):
        """Returns a number of another type, or the number in an array without dimensions; NaN for other values."""
        if getattr(value, "shape", None) == () and not isinstance(value, self.numbers):
            value = value.item()
        is_real = isinstance(value, self.numbers) and not isinstance(value, complex)
        return value if is_real else math.nan

    def of_episode(self):
        """Returns the value of each term for the episode so far."""
        seen = self.seen.items()
        terms = {str(name): last if name in AT_THE_END else total / count for name, (total, count, last) in seen}
        return {name: value for name, value in terms.items() if math.isfinite(value)}
