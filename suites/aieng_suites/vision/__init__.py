"""Vision: transformers and CNNs trained from scratch on real images."""
