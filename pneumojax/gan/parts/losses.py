"""Pairs (d, g) of losses: d(real, fake) and g(fake, real), scalars of logits [N] that are positive for real.

Both see both kinds of logits, so that relativistic losses fit.

non_saturating: binary cross-entropy, the generator's in its other form (Goodfellow et al. 2014, section 3).
hinge: Lim and Ye 2017, as in SAGAN (Zhang et al. 2019, equation 4).
least_squares: real ones are to give 1, generated ones 0, and 1 for the generator (LSGAN; Mao et al. 2017, equation 9).
wasserstein: the difference of means, for a critic that a penalty keeps smooth (Arjovsky et al. 2017).
relativistic: cross-entropy of real against generated images, paired as they come (Jolicoeur-Martineau 2018; R3GAN,
  Huang et al. 2024, section 2). One logit alone, its sign for instance, has no meaning then.
"""

import flax.linen as nn
import jax.numpy as jnp

non_saturating = (
    lambda real, fake: jnp.mean(nn.softplus(-real)) + jnp.mean(nn.softplus(fake)),
    lambda fake, real: jnp.mean(nn.softplus(-fake)),
)
hinge = (
    lambda real, fake: jnp.mean(nn.relu(1 - real)) + jnp.mean(nn.relu(1 + fake)),
    lambda fake, real: -jnp.mean(fake),
)
least_squares = (
    lambda real, fake: (jnp.mean((real - 1) ** 2) + jnp.mean(fake**2)) / 2,
    lambda fake, real: jnp.mean((fake - 1) ** 2) / 2,
)
wasserstein = (
    lambda real, fake: jnp.mean(fake) - jnp.mean(real),
    lambda fake, real: -jnp.mean(fake),
)
relativistic = (
    lambda real, fake: jnp.mean(nn.softplus(fake - real)),
    lambda fake, real: jnp.mean(nn.softplus(real - fake)),
)
