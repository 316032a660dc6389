"""Descriptors of images (Appendix B): layers, pooling, scales and flips, and the files that rows are kept in."""
