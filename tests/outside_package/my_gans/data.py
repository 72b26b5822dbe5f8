"""Strips of pixels from a .npz file, PNG bytes from a table, and heartbeats."""

import io

import numpy as np

from gan.data import image_data, series_data


def strips(*, file: str):
    """Return the grey images (n, height, width) of a .npz file, with their labels."""
    with np.load(file) as arrays:
        return image_data(arrays["images"], arrays["labels"])


def png_table(*, file: str, column: str = "png"):
    """Return the images in a column of PNG bytes of a parquet file."""
    import pandas as pd
    from PIL import Image

    table = pd.read_parquet(file)
    images = [np.asarray(Image.open(io.BytesIO(content))) for content in table[column]]
    return image_data(np.stack(images))


def heartbeats(*, length: int):
    """Return 400 series with a beat at another place each."""
    t = np.linspace(0, 1, length)
    places = np.linspace(0.2, 0.8, 400)[:, None]
    return series_data(np.exp(-(((t - places) / 0.05) ** 2))[:, None])
