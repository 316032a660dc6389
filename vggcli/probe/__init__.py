"""Linear SVMs on stored descriptors (Appendix B): targets, descriptors, and the protocols that measure them."""
