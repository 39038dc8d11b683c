"""A bakery drawn by code: what `handlens sample bakery` writes. textures, then breads and tables, then scene."""
