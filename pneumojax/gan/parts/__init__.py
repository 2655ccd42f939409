"""What GANs are composed of: `adversarial` the step, `losses` pairs of losses, `layers` convolutions."""
