"""Descriptors of images (Appendix B): layers, pooling, scales and flips, their files, and what is learnt on them."""
