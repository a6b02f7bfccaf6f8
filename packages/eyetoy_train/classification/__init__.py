"""Classification, whatever the modality."""
