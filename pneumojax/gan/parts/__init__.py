"""What GANs are composed of: the step of `adversarial`, and what it takes: losses, penalties, augmentations, layers, averages, a precision."""
