"""From a path to a batch on the device: sources, decoding, training and test views, the loader."""
