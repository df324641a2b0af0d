"""Files that are copied beside an exported model as how_to_load.py; each runs on its own."""
