"""Sound classification with the one-dimensional EyeToy encoder: data, transforms and the task."""
