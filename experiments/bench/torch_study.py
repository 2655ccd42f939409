"""The study of `experiments.bench.study` as a PyTorch user writes it who counts its cost: features are kept as well."""

import json
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn import metrics
from torch import nn

from configs import default
from experiments.bench.gans import dcgan
from pneumojax import weights


class Clock:
    """Seconds by stage."""

    def __init__(self):
        self.seconds = {}

    @contextmanager
    def of(self, stage: str):
        begun = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun


def run(setting, data: str, file: str, out: str) -> dict[str, float]:
    """The study of a `study.Setting`, from a folder of images and a file of weights: seconds by stage."""
    clock, rng, results = Clock(), np.random.default_rng(0), []
    with clock.of("weights"):
        trunk = trunk_of(file)
    with clock.of("data"):
        paths, labels, patients = listed(Path(data), setting.classes)
        small, large = decoded(paths, (setting.gan_size, setting.size))
    with clock.of("features"):
        kept = forward(trunk, large)
    for train, test, unseen in trials_of(setting, labels, patients, rng):
        made = {}
        with clock.of("gan"):
            for label in range(len(setting.classes)):
                own = train[labels[train] == label]
                made[label] = enlarged(draw(small[own], setting, (setting.enlarge - 1) * len(own)), setting.size)
        with clock.of("features"):
            extra = forward(trunk, torch.cat(list(made.values())))
        known = torch.as_tensor(labels[train])
        labels_made = torch.cat([torch.full((len(pictures),), label) for label, pictures in made.items()])
        arms = {
            "without_gan": (kept[train], known),
            "with_gan": (torch.cat([kept[train], extra]), torch.cat([known, labels_made])),
        }
        for arm, (seen, targets) in arms.items():
            with clock.of("classifier"):
                predict = fitted(seen, targets, len(train), setting)
                logits = [predict(kept[part]) for part in (test, unseen)]
            with clock.of("evaluate"):
                results += [
                    {"arm": arm} | scored(labels[part], of) for part, of in zip((test, unseen), logits, strict=True)
                ]
    with clock.of("evaluate"):
        Path(out, "results.json").write_text(json.dumps(results))
    return clock.seconds


def trunk_of(file: str) -> nn.Module:
    """SqueezeNet 1.1 less its head."""
    module = weights.import_torchvision().models.squeezenet1_1(num_classes=2)
    given = load_file(file)
    module.load_state_dict({k: v.float() for k, v in given.items() if not k.startswith("classifier")}, strict=False)
    return module.features.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def listed(root: Path, classes) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files of both classes, their labels and their patients, by the published names."""
    found = [(path, label) for label, name in enumerate(classes) for path in sorted(root.rglob(f"{name}/*.jpeg"))]
    patients = [path.name.split("_")[0] if label else "-".join(path.name.split("-")[:-1]) for path, label in found]
    return [path for path, _ in found], np.array([label for _, label in found]), np.array(patients)


class Files(torch.utils.data.Dataset):
    """Gray pictures at several sizes."""

    def __init__(self, paths: list[Path], sizes):
        self.paths, self.sizes = paths, sizes

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as file:
            gray = file.convert("L")
        pictures = [gray.resize((side, side), Image.Resampling.BILINEAR) for side in self.sizes]
        return [torch.from_numpy(np.array(picture)) for picture in pictures]


def decoded(paths: list[Path], sizes) -> list[torch.Tensor]:
    """uint8 [N, S, S] for each size, by two workers."""
    loader = torch.utils.data.DataLoader(Files(paths, sizes), batch_size=64, num_workers=2)
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


def trials_of(setting, labels: np.ndarray, patients: np.ndarray, rng):
    """Rows to train on, to test on and all others, of each trial: patients apart, subsets apart."""
    names, patient = np.unique(patients, return_inverse=True)
    rows, taken = np.argsort(rng.permutation(len(names))[patient], kind="stable"), np.zeros(len(labels), bool)
    for _ in range(setting.trials):
        subset = [rows[(labels[rows] == label) & ~taken[rows]][:count] for label, count in enumerate(setting.subset)]
        taken[np.concatenate(subset)] = True
        test = np.concatenate([own[: round(setting.test * len(own))] for own in subset])
        train = np.concatenate([own[round(setting.test * len(own)) :] for own in subset])
        train = train[~np.isin(patient[train], patient[test])]
        unseen = np.setdiff1d(np.arange(len(labels)), np.concatenate(subset))
        yield train, test, unseen[~np.isin(patient[unseen], patient[train])]


def orders(count: int, steps: int, batch: int) -> tuple[torch.Tensor, ...]:
    """The rows of each step, epoch after epoch."""
    epochs = [torch.randperm(count) for _ in range(steps * batch // count + 1)]
    return torch.cat(epochs)[: steps * batch].split(batch)


def draw(images: torch.Tensor, setting, count: int) -> torch.Tensor:
    """A DCGAN is trained on uint8 [n, S, S]; returns what it draws, uint8 [count, S, S]."""
    config = default.get_config().gan
    config.update({"filters": setting.filters, "batch_size": setting.gan_batch, "image_size": setting.gan_size})
    twin = dcgan.dcgan(config, torch.device("cpu"), lambda function: function)
    for rows in orders(len(images), setting.gan_steps, setting.gan_batch):
        real = images[rows][:, None].float() / 127.5 - 1
        flipped = torch.rand(len(real), 1, 1, 1) < 0.5
        twin.step(torch.where(flipped, real.flip(3), real), torch.zeros(len(real), dtype=torch.long))
    generator = twin.networks["generator"].eval()
    with torch.inference_mode():
        made = [generator(z, None) for z in torch.randn(count, config.latent_dim).split(256)]
    return ((torch.cat(made)[:, 0] + 1) * 127.5).round().to(torch.uint8)


def enlarged(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 [n, S, S] at another size."""
    large = nn.functional.interpolate(pictures[:, None].float(), (size, size), mode="bilinear")
    return large[:, 0].round().to(torch.uint8)


def forward(trunk: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Features float [n, 512, h, w] of uint8 [n, S, S]."""
    mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        batches = [(batch[:, None].float() / 255 - mean) / std for batch in pictures.split(64)]
        return torch.cat([trunk(x.to(memory_format=torch.channels_last)) for x in batches])


def fitted(features: torch.Tensor, labels: torch.Tensor, count: int, setting):
    """A head on features [n, 512, h, w], standardised by the first `count`; a function that gives logits [n, 2]."""
    deviation, mean = torch.std_mean(features[:count], (0, 2, 3), keepdim=True)
    head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(512, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    optimizer = torch.optim.SGD(head.parameters(), setting.rate, momentum=0.9, weight_decay=1e-4)
    for rows in orders(len(labels), setting.steps, setting.batch):
        optimizer.zero_grad()
        logits = head((features[rows] - mean) / (deviation + 1e-6))
        nn.functional.cross_entropy(logits, labels[rows]).backward()
        optimizer.step()
    head.eval()

    def predict(others: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([head((batch - mean) / (deviation + 1e-6)) for batch in others.split(256)])

    return predict


def scored(labels: np.ndarray, logits: torch.Tensor) -> dict:
    """What a user would print."""
    chosen, likely = logits.argmax(1).numpy(), logits.softmax(1)[:, 1].numpy()
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(labels, chosen, average="macro", zero_division=0)
    matrix = metrics.confusion_matrix(labels, chosen).tolist()
    auc = float(metrics.roc_auc_score(labels, likely))
    return {"matrix": matrix, "precision": precision, "recall": recall, "f1": f1, "auc": auc}
