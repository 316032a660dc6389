"""Descriptors of images and what is learnt on them (Appendix B)."""
