"""Noise inputs of a generator, drawn so that an image is a function of its latent alone."""

import jax
import jax.numpy as jnp


def maps(latents, sizes: list[int]) -> list[jax.Array]:
    """Noise from N(0, 1) for each image: latents float [N, Z] → a list of float32 [N, size, size, 1].

    Each image's key is made of the bits of its own latent. So `sample` needs no key and gives the same image wherever a
    latent stands in a batch, and in training the noise is as fresh as the latents are. Bits are added as whole numbers,
    which has one result in every order and on every device; weights that are odd, and so lose no bit, tell the
    coordinates apart.
    """
    bits = jax.lax.bitcast_convert_type(latents.astype(jnp.float32), jnp.uint32)
    odd = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    words = jnp.stack([(bits * odd).sum(1), (bits * odd[::-1] ** 2).sum(1)], 1)
    ends = [sum(size**2 for size in sizes[: number + 1]) for number in range(len(sizes))]

    def draw(word):
        return jax.random.normal(jax.random.wrap_key_data(word, impl="threefry2x32"), (ends[-1],))

    pieces = jnp.split(jax.vmap(draw)(words), ends[:-1], axis=1)
    return [piece.reshape(-1, size, size, 1) for piece, size in zip(pieces, sizes, strict=True)]
