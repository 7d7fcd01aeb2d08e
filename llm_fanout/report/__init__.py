"""How a Report or a Summary looks: a few lines of text, a notebook cell, a live bar."""
