"""Localisation by box regression (Appendix A): boxes and views, candidates, their merging, and the error."""
