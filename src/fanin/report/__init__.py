"""Results for people: the terminal's table, one self-contained HTML file, Matplotlib figures."""
