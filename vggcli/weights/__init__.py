"""Files of weights: this program's checkpoints, and a reader and a writer for each other framework's."""
