"""Descriptors of images (Appendix B): layers, pooling, scales and flips, the files that store them, and search."""
