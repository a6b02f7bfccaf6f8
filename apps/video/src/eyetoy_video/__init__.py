"""Video classification with EyeToy's encoders: video files, clip transforms and data sets."""
