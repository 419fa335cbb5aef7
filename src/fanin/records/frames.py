"""Rows as a pandas DataFrame, where pandas is installed."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fanin.errors import extra_missing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame"]


def frame(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """One row for each mapping.

    Raises:
        MissingExtraError: If pandas is not installed.

    Example:
        >>> frame([{"seed": 0, "loss": 0.5}, {"seed": 1, "loss": 0.25}])["loss"].mean()
        np.float64(0.375)
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise extra_missing(error, "dev", ("pandas",), "to_pandas()") from None
    return pd.DataFrame(list(rows))
