"""A page in the browser on which trained models are tried on pictures, sounds and videos."""
