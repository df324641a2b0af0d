"""MobileNetV2: inverted residuals with depthwise convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Cut, Group, linear, multiple_of, norm, reads
from lessen.models.families.resnet import pixels

MULTIPLE = 8  # channel widths that the kernels like
BASE = "mobilenet_v2"
CHANNELS = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)  # transformers' MobileNetV2Model
MOMENTUM = 0.1


class MobileNetV2:
    """The MobileNetV2 family: expansion widths, the last 1x1 convolution, and the residual streams."""

    name = "mobilenet_v2"
    model_types: tuple[str, ...] = ("mobilenet_v2",)
    task: Literal["text-classification", "image-classification"] = "image-classification"
    fields: Mapping[str, str] = {}
    dropouts: tuple[str, ...] = ("classifier_dropout_prob",)
    pooler_argument = False

    def groups(self, module: nn.Module) -> list[Group]:
        """Return the expansion channels of stem and blocks, the last convolution, and the residual streams."""
        return [*_expansions(module), _last(module), *_streams(module)]

    def units(self, config: Any) -> dict[str, int]:
        """Return the channels that the configuration gives each group."""
        from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import apply_depth_multiplier

        channels = [apply_depth_multiplier(config, c) for c in CHANNELS]
        stem = apply_depth_multiplier(config, 32)
        found = {"stem.expand": stem} if config.first_layer_is_expansion else {"stem.first": stem, "stem.expand": stem}
        found |= {f"layer.{i}.expand": n for i, n in enumerate(_expanded(config, config.expand_ratio))}
        fine = config.finegrained_output and config.depth_multiplier < 1.0
        found["last"] = 1280 if fine else apply_depth_multiplier(config, 1280)
        stream, found["stream.0"] = 0, channels[0]
        for i, (narrow, wide, stride) in enumerate(zip(channels, channels[1:], _strides(config), strict=False)):
            if stride != 1 or narrow != wide:
                stream, found[f"stream.{i + 1}"] = i + 1, wide
        del stream
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set `expand_ratio` where one ratio gives all expansion widths, else leave it."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        widths = [now[f"layer.{i}.expand"] for i in range(len(CHANNELS) - 1)]
        ratio = widths[-1] / _inputs(config)[-1]
        if _expanded(config, ratio) == widths:
            config.expand_ratio = ratio

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the inverted residuals."""
        return [f"{BASE}.layer.{i}" for i in range(len(CHANNELS) - 1)]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return every block: the architecture has a fixed number of them."""
        return frozenset(range(len(CHANNELS) - 1))

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Refuse.

        Raises:
            ModelError: always; its configuration cannot say another depth.
        """
        raise ModelError("MobileNetV2 has a fixed number of layers", "prune channels, or choose a smaller multiplier")

    def mend_(self, module: nn.Module) -> None:
        """Lower the momentum of BatchNorm: 0.997 there means that statistics are those of the last batch alone."""
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = MOMENTUM

    def embeddings(self, module: nn.Module) -> int:
        """Return 0: there are no tables."""
        return 0

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the stock classifier's Linear."""
        return ("classifier",)

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return blocks, and the widths of streams and expansions."""
        groups = self.groups(module)
        return {
            "layers": len(CHANNELS) - 1,
            "hidden_size": [g.units for g in groups if g.part == "stream"],
            "channels": [g.units for g in groups if g.part == "conv"],
        }

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return half the depth multiplier (there is no other setting)."""
        return {"depth_multiplier": config.depth_multiplier / 2}

    def scratch(self, values: dict[str, Any], processor: Any) -> dict[str, Any]:
        """Return values with the processor's number of colour channels and image size."""
        return {**values, "num_channels": processor.channels, "image_size": processor.size}

    def longest(self, config: Any) -> int | None:
        """Return no bound."""
        return None

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return pixels, shape [batch, channels, length, length]."""
        return pixels(module, batch, length)


def _inputs(config: Any) -> list[int]:
    from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import apply_depth_multiplier

    return [int(apply_depth_multiplier(config, c)) for c in CHANNELS[:-1]]


def _expanded(config: Any, ratio: float) -> list[int]:
    from transformers.models.mobilenet_v2.modeling_mobilenet_v2 import make_divisible

    widths = (make_divisible(round(c * ratio), config.depth_divisible_by, config.min_depth) for c in _inputs(config))
    return [int(w) for w in widths]


def _strides(config: Any) -> list[int]:
    """Return each block's stride, as transformers sets it: dilation takes over at `output_stride`."""
    wanted, current, found = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1), 2, []
    for stride in wanted:
        found.append(1 if current == config.output_stride else stride)
        current *= found[-1]
    return found


def _conv(path: str) -> tuple[Cut, ...]:
    return (*linear(f"{path}.convolution", bias=False), *norm(f"{path}.normalization"))


def _channels(
    module: nn.Module, name: str, paths: Sequence[str], consumers: Sequence[Cut], layer: int, stream: bool = False
) -> Group:
    weight: Any = module.get_submodule(f"{paths[0]}.convolution").weight
    units = int(weight.shape[0])
    made = tuple(c for path in paths for c in _conv(path))
    part: Any = "stream" if stream else "conv"
    return Group(name, "channels", units, made, tuple(consumers), layer, part, multiple_of(units, MULTIPLE))


def _expansions(module: nn.Module) -> Iterator[Group]:
    stem = f"{BASE}.conv_stem"
    expand, after = f"{stem}.expand_1x1", [f"{stem}.conv_3x3"]
    if getattr(module.get_submodule(stem), "expand_1x1", None) is None:
        first = [f"{stem}.first_conv", *after]
    else:
        yield _channels(module, "stem.first", [f"{stem}.first_conv"], [reads(f"{expand}.convolution")], 0)
        first = [expand, *after]
    yield _channels(module, "stem.expand", first, [reads(f"{stem}.reduce_1x1.convolution")], 0)
    for i in range(len(CHANNELS) - 1):
        block = f"{BASE}.layer.{i}"
        paths = [f"{block}.expand_1x1", f"{block}.conv_3x3"]
        yield _channels(module, f"layer.{i}.expand", paths, [reads(f"{block}.reduce_1x1.convolution")], i)


def _last(module: nn.Module) -> Group:
    named = module.named_modules()
    reader = next(n for n, m in named if n.startswith("classifier") and isinstance(m, nn.Linear))
    return _channels(module, "last", [f"{BASE}.conv_1x1"], [reads(reader)], len(CHANNELS) - 2)


def _streams(module: nn.Module) -> Iterator[Group]:
    name, layer, made = "stream.0", 0, [f"{BASE}.conv_stem.reduce_1x1"]
    read: list[Cut] = []
    for i in range(len(CHANNELS) - 1):
        block: Any = module.get_submodule(f"{BASE}.layer.{i}")
        read.append(reads(f"{BASE}.layer.{i}.expand_1x1.convolution"))
        if not block.use_residual:
            yield _channels(module, name, made, read, layer, stream=True)
            name, layer, made, read = f"stream.{i + 1}", i, [], []
        made.append(f"{BASE}.layer.{i}.reduce_1x1")
    read.append(reads(f"{BASE}.conv_1x1.convolution"))
    yield _channels(module, name, made, read, layer, stream=True)


FAMILY = MobileNetV2()
