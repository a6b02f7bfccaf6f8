"""Classification of any modality."""
