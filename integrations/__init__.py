"""Other systems we speak with, one file or folder per counterpart."""
