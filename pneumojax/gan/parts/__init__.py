"""What GANs are composed of: the step of `adversarial`, and all that it takes, from losses to a precision."""
