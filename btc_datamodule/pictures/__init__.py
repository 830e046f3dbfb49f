"""Pictures of what a datamodule has: by matplotlib, and a strip for notebooks without it."""
