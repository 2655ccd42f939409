"""What GANs are composed of: the step of `adversarial`, and what it takes: losses, layers, averages, a precision."""
