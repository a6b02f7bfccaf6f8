"""Images: recipes, data and tasks that train Encoder2D."""
