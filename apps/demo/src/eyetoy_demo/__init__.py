"""A page in the browser to try trained models on images, sounds and videos."""
