"""Every field once, with the paper's settings. The other configs import this one and set what differs.

A GAN, a model and a system may have fields of their own beside these: `DEFAULTS` of a module in gan/ or systems/, the
fields of a `Model` in models/. What the paper leaves open is taken from the MathWorks examples that it matches (MATLAB,
2019).
"""

from ml_collections import ConfigDict

from pneumojax.data import CLASSES, PATIENT_PATTERN


def get_config() -> ConfigDict:
    """The paper's study with ResNet-18."""
    c = ConfigDict()
    c.seed = 0  # everything random is folded from it
    c.trials = (0, 1, 2)  # trial numbers; each draws a subset of its own
    # clean: by patient, honest; paper: as published; official: the published folders train and test, a trial is a
    # seed; patient_kfold: all images, a trial is a fold; disjoint: the same test patients in all trials, each trained
    # on a subset of the others that no other trial has
    c.protocols = ("clean", "paper")
    c.arms = ("without_gan", "with_gan", "with_gan_epochs")  # functions of pneumojax/arms.py, or `module.function`
    c.enlarge = 10.0  # real plus generated images, as a multiple of the real ones

    c.data = d = ConfigDict()
    d.name = "folder"  # module of pneumojax/data: folder, kermany, phantom
    d.classes = CLASSES  # two or more, label 0 first: class folders, or subtypes (bacteria, virus) in names or folders
    # folder, kermany: holds the class folders, at its top or below train, val and test;
    # kermany: or the prepared set, '' where `python -m pneumojax.data.prepare` puts it
    d.dir = ""
    d.on_bad = "error"  # unreadable images: error, or skip (counted in results.json)
    d.cache = "~/.cache/pneumojax"  # folder, kermany: decoded images, keyed by names, sizes and times of the files
    d.fit = "stretch"  # to a square: stretch (the paper's set is), or pad with black, which keeps the aspect
    # of DICOMs: as viewer (the VOI LUT, else the first window), first window (before the LUT), or percentile (0.5 to
    # 99.5 of the picture, padding left out); without one the set's bits decide
    d.window = "as viewer"
    # a DICOM's header tells the patient; else the groups of this, found at the start of a file's name, joined by /
    d.patient_pattern = PATIENT_PATTERN
    d.residence = "device"  # of images: device (fastest), or stream from disk what is larger than memory
    d.memory = 32.0  # device: gigabytes that images may take, twice their pixels (decoded, and on the device)
    d.phantom_images = (750, 1250)  # phantom: pictures of each class
    d.subset = (234, 390)  # images of each class a trial (paper: 624, a tenth)
    d.test_fraction = 0.2  # of the subset (paper, section 5); disjoint: of all
    d.folds = 5  # patient_kfold
    d.fraction = 1.0  # of the training patients, for learning curves; not in paper
    # more test sets for every classifier: ({"name": "hospital", "dir": "DIR"}, …), as folder; "patient_pattern" if
    # theirs is another
    d.external = ()

    c.gan = g = ConfigDict()
    g.name = "dcgan"  # module of pneumojax/gan
    g.image_size = 64  # pixels; generated images are resized to the classifier's
    g.latent_dim = 100  # N(0, 1)
    g.filters = 64  # of the layer nearest to the image
    g.d_steps = 1  # batches that a step takes: a critic's updates for one of the generator
    g.batch_size = 128  # partial batches are dropped
    g.accumulate = 1  # pieces that a batch is computed in, for less memory; their gradients are averaged
    g.dtype = "float32"  # that the networks compute in: float32, bfloat16; parameters are float32
    g.seeds = 1  # GANs of each class and trial; every arm with generated images is trained on the images of each
    g.epochs = 1000  # over the class's images; used where steps is 0
    g.steps = 0  # optimiser steps of each network
    g.generator_learning_rate = 2e-4  # Adam
    g.discriminator_learning_rate = 1e-4  # Adam
    g.beta1 = 0.5  # Adam
    g.beta2 = 0.999  # Adam
    g.flip = True  # random horizontal flips of real images
    g.log_every = 100  # steps; also the steps in one dispatch
    g.sample_every = 500  # steps between sample grids
    g.save_every = 500  # steps between checkpoints
    g.cache = "~/.cache/pneumojax"  # generated images by content, shared by runs; '' for none

    c.quality = q = ConfigDict()  # of generated images: while a GAN trains, and of `python -m pneumojax.gan.evaluate`
    q.features = "squeezenet"  # the network that looks: module of pneumojax/models
    q.weights = "none"  # of it, as model.weights; none: random ones
    q.images = 500  # of each class that are looked at, at most, generated and real ones
    q.every = 0  # steps between measurements while a GAN trains; 0 for none
    # of the images that a GAN may see, kept from it by patient: the state with the lowest KID against them is drawn
    # from; 0: the last one is
    q.inner = 0.0

    c.model = m = ConfigDict()
    m.name = "resnet18"  # module of pneumojax/models
    m.image_size = 224  # pixels; images are held at this size
    # none: from scratch; torchvision: ImageNet's; a .safetensors, .pth, converted or exported folder
    m.weights = "none"
    m.allow_missing = ()  # tensors, layers or blocks, by torchvision's names, that weights may lack; they start anew
    m.cache = "~/.cache/pneumojax"  # downloaded weights
    m.dtype = "float32"  # that the network computes in: float32, bfloat16; parameters are float32

    c.system = ConfigDict()
    c.system.name = "finetune"  # module of pneumojax/systems: what gives logits

    c.classifier = k = ConfigDict()
    k.mode = "full"  # stages that are trained: full (all), head (the last layer), last_k; the others are frozen
    k.last_k = 2  # last_k: stages, the head included
    k.seeds = 1  # classifiers of each arm and trial, with other initial values and another order
    k.batch_size = 10  # partial batches are dropped
    k.epochs = 6  # over the training images; used where steps is 0
    k.steps = 0  # optimiser steps of the arm without GAN; arms matched by epochs take more, in proportion
    k.optimizer = "sgd"  # sgd (with momentum), adam, adamw
    k.learning_rate = 3e-4
    k.new_layer_rate = 10.0  # multiple of it for layers that model.weights does not bring (MATLAB's examples)
    k.schedule = "constant"  # of the learning rate: constant, or linear or cosine down to 0
    k.warmup = 0.0  # fraction of the steps in which it rises from 0
    k.momentum = 0.9  # sgd
    k.weight_decay = 1e-4  # on kernels: L2, or decoupled in adamw
    # classical augmentation, drawn anew for each image and step; what moves in is black
    k.flip = False  # left to right, every other image
    k.shift = 0  # up to so many pixels each way (MATLAB's example: 30)
    k.rotation = 0.0  # up to so many degrees either way
    k.zoom = 0.0  # by 1 - zoom to 1 + zoom
    k.shear = 0.0  # up to so many degrees either way
    k.standardise = False  # head, last_k: features, by mean and deviation of each channel over the training images
    k.feature_dtype = "float32"  # head, last_k: features in memory: float32, bfloat16
    k.feature_memory = 8.0  # head, last_k: gigabytes that features may take; 0: they are computed in each step
    k.predict_batch_size = 128  # images at a time in evaluation
    k.log_every = 49  # steps; also the steps in one dispatch
    k.save_every = 490  # steps between checkpoints

    c.evaluate = e = ConfigDict()
    # of the training patients a part that GANs and classifiers do not see, to choose by it what is to be chosen:
    # a probe's penalty, thresholds, a temperature; not under the protocol paper
    e.inner = 0.0
    e.declared = ("clean", "unseen", "with_gan")  # the contrast chosen before any result: protocol, part, arm
    e.score = "accuracy"  # that it is judged by: accuracy, auc
    e.margin = 0.01  # arms are equivalent within ± this fraction of it
    return c
