"""VGG on the command line: every network of Simonyan and Zisserman (ICLR 2015), trained, measured and used."""

__version__ = "0.1.0"
