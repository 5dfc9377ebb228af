"""numpy, or an error that names the command which installs it."""

from perdure.domain.errors import ExtraMissing, InvalidInput

try:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
except ModuleNotFoundError as error:  # the extra is optional; everything that needs it imports it from here
    raise ExtraMissing("numpy", extra="ml") from error

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

__all__ = ["ArrayLike", "Bools", "Floats", "Integers", "NDArray", "matrix", "np", "vector"]


def matrix(values: ArrayLike, *, field: str, columns: int | None = None) -> Floats:
    """`values` as a float matrix, a single row for one dimension; raises InvalidInput naming `field`."""
    found = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if found.ndim != 2:
        raise InvalidInput(field, f"has {found.ndim} dimensions; rows and columns are wanted")
    if columns is not None and found.shape[1] != columns:
        raise InvalidInput(field, f"has {found.shape[1]} columns; the model was fitted on {columns}")
    return found


def vector(values: ArrayLike, *, field: str, length: int | None = None) -> Floats:
    """`values` as a float vector; raises InvalidInput naming `field`."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise InvalidInput(field, f"has {found.ndim} dimensions; one is wanted")
    if length is not None and len(found) != length:
        raise InvalidInput(field, f"has {len(found)} values for {length} rows")
    return found
