"""What a model got right and wrong, how sure it was, and one page that shows it."""
