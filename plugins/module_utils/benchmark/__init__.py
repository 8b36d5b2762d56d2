"""An app measured on its host: a load, and instances of its current release beside the one that serves."""
