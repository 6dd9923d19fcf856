"""Models of the vision studies, each one readable file of plain PyTorch."""
