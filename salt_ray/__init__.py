"""salt-ray: k-fold training, tuning and mosaic post-processing for salt segmentation in seismic tiles, on Ray."""
