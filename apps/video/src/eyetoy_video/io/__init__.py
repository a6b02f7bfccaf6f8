"""Reading of video files and of videos of `datasets`."""
