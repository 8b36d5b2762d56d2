"""Where the desk keeps things."""


def put(path, text):
    """Keep a text."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
