"""Reading of video files."""
