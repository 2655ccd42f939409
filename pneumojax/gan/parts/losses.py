"""Pairs (d, g) of losses: d(real, fake) and g(fake, real), scalars of logits [N] that are positive for real.

Both see both kinds of logits, so that relativistic losses fit.

non_saturating: binary cross-entropy, the generator's in its other form (Goodfellow et al. 2014, section 3).
hinge: Lim and Ye 2017, as in SAGAN (Zhang et al. 2019, equation 4).
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
