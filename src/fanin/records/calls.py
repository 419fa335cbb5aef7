"""An initializer or optimizer as text: a name with keyword parameters."""

from dataclasses import dataclass

__all__ = ["Call", "Init", "Value"]

Value = bool | int | float | str | tuple[float, ...] | None
"""What a parameter may be."""


@dataclass(frozen=True, init=False)
class Call:
    """A name with keyword parameters, such as ``sgd(learning_rate=0.1, momentum=0.9)``.

    Prints as the text that a command line takes. Two calls are equal when names and parameters are.

    Example:
        >>> Call("sgd", momentum=0.9)
        Call('sgd(momentum=0.9)')
    """

    name: str
    items: tuple[tuple[str, Value], ...]

    def __init__(self, name: str, /, **params: Value):
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "items", tuple(sorted(params.items())))

    @property
    def params(self) -> dict[str, Value]:
        """The parameters by name."""
        return dict(self.items)

    def __str__(self) -> str:
        if not self.items:
            return self.name
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.items)})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class Init(Call):
    """An initializer: the name of a law and its parameters, without an array and without a seed.

    Example:
        >>> print(Init("random_normal", stddev=0.01))
        random_normal(stddev=0.01)
    """
