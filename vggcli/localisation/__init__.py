"""Localisation by box regression (Appendix A): candidate boxes, their merging, both protocols, and the error."""
