"""The disk: files written whole or not at all, read with checks, and one writer at a time."""
