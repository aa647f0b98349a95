"""Functions for the functions of feature views: ``from penstock.functions import haversine_km``.

They take and give NumPy arrays, look at each row alone, and give the same bits on every machine and in batches of any size.
"""

from typing import Any

__all__ = ["haversine_km"]


def haversine_km(latitude: Any, longitude: Any, other_latitude: Any, other_longitude: Any) -> Any:
    """The distance between two places along the globe, in kilometres.

    The great circle on a sphere with the Earth's mean radius, 6,371.0088 km: up to 0.5 % from the true distance, since the Earth is a
    little flat. Computed by the haversine formula with a sine and an arcsine of our own, so that a vector that was logged on
    one machine is recomputed bit for bit on another; NumPy's depend on the processor.

    Parameters
    ----------
    latitude, longitude, other_latitude, other_longitude
        Degrees; arrays of one length, or single numbers, which stand for all rows. Latitudes lie from -90 to 90; longitudes
        may be counted from -180 to 180 or from 0 to 360.

    Returns
    -------
    numpy.ndarray
        float64, one distance a row; a float where all four are single numbers. NaN, which a feature takes for null, where one
        of the four is NaN, None or infinite, or a latitude lies beyond a pole.

    Raises
    ------
    ValueError
        The arrays differ in length, or are texts.

    Examples
    --------
    Brussels to New York, and to itself:

    >>> round(haversine_km(50.85, 4.35, 40.71, -74.01), 3)
    5888.983
    >>> haversine_km([50.85, 40.71], [4.35, -74.01], 50.85, 4.35).round(1).tolist()
    [0.0, 5889.0]
    """
    import numpy as np

    from penstock.kernel.sphere import distances_km

    given = (latitude, longitude, other_latitude, other_longitude)
    places: Any = [np.asarray(column, np.float64) for column in given]
    if len({column.shape for column in places}) > 1:
        places = np.broadcast_arrays(*places)
    found = np.empty(places[0].shape)
    lat, lon, other_lat, other_lon = (column.ravel() for column in places)
    distances_km(lat, lon, other_lat, other_lon, found.reshape(-1))
    return found if found.ndim else float(found)
