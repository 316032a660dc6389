"""The command line: one file a command, shared options declared once, one error boundary. Only this room prints."""
