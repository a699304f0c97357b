"""salt-ray: k-fold training, tuning and mosaic post-processing for salt segmentation in seismic tiles, on Ray."""

#: Of the code; pyproject.toml reads it here, and every run records it.
__version__ = "0.2.0"
