"""What can be told of generated images, as pure functions of features or of pixels; numbers of numpy's float64.

Features are float [images, d] of any network, the same one for both sets; images uint8 [images, S, S]. Real images go
through the GAN's size first. A quantity that does not exist raises `Undefined`, a `BadInput`, in one line;
`measured(function, …)` makes of it (None, reason) for a JSON that holds null and no NaN.

How far the sets are apart: `kid` with `kid_deviation` and `scale_of`, `frechet` with `frechet_caveat`. Whether
generated images are like real ones and real ones like generated: `prdc`. How different they are: `ssim_diversity`,
`spread`, `collapsed`. Whether they are copies: `nearest`, `closest`, `copy_rate`, `c_t`, `authpct`. Whether they can be
told: `tell_auc`, `tell_accuracy`, `thumbnails`.
"""

from pneumojax.gan.quality.distances import frechet, frechet_caveat, kid, kid_deviation, scale_of
from pneumojax.gan.quality.diversity import collapsed, spread, ssim, ssim_diversity, thumbnails
from pneumojax.gan.quality.inputs import Measured, Undefined, measured
from pneumojax.gan.quality.memorisation import CopyRate, authpct, c_t, copy_rate
from pneumojax.gan.quality.neighbours import Nearest, closest, nearest, prdc
from pneumojax.gan.quality.tell import tell_accuracy, tell_auc

__all__ = [
    "CopyRate",
    "Measured",
    "Nearest",
    "Undefined",
    "authpct",
    "c_t",
    "closest",
    "collapsed",
    "copy_rate",
    "frechet",
    "frechet_caveat",
    "kid",
    "kid_deviation",
    "measured",
    "nearest",
    "prdc",
    "scale_of",
    "spread",
    "ssim",
    "ssim_diversity",
    "tell_accuracy",
    "tell_auc",
    "thumbnails",
]
