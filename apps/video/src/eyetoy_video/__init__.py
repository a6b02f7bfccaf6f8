"""Video classification with EyeToy's encoders: reading video files, clip transforms and a data set to try them on."""
