"""A bakery drawn by code: what `handlens sample bakery` writes. textures, crust and breads, tables, scene."""
