"""ResNet with basic (ResNet-18, -34) or bottleneck (ResNet-50 and up) blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Group, linear, multiple_of, norm, reads

MULTIPLE = 8  # channel widths that the kernels like
STAGES = "resnet.encoder.stages"
STEM = "resnet.embedder.embedder"


class ResNet:
    """The ResNet family.

    Groups: the inner channels of each block, and one residual stream for each stage. The stem belongs to the first
    stage's stream where that stage adds it up unchanged (no shortcut convolution).
    """

    name = "resnet"
    model_types: tuple[str, ...] = ("resnet",)
    task: Literal["text-classification", "image-classification"] = "image-classification"
    fields: Mapping[str, str] = {"layers": "depths", "hidden_size": "hidden_sizes"}
    dropouts: tuple[str, ...] = ()
    pooler_argument = False

    def groups(self, module: nn.Module) -> list[Group]:
        """Return the inner channels of every block and the residual streams."""
        blocks = _blocks(module)
        found = [g for i, (stage, index, path) in enumerate(blocks) for g in _inner(module, i, stage, index, path)]
        return found + list(_streams(module, blocks))

    def units(self, config: Any) -> dict[str, int]:
        """Return the channels that the configuration gives each group."""
        reduce = 4 if config.layer_type == "bottleneck" else 1
        found = {} if _stem_joins(config) else {"stream.stem": int(config.embedding_size)}
        for stage, (width, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
            found[f"stream.{stage}"] = int(width)
            for block in range(depth):
                for conv in range(2 if reduce == 4 else 1):
                    found[f"stage.{stage}.block.{block}.conv.{conv}"] = int(width) // reduce
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set `hidden_sizes` and `embedding_size` where all widths of a stage agree, else leave them."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        reduce = 4 if config.layer_type == "bottleneck" else 1
        sizes, stem, joins = list(config.hidden_sizes), now.get("stream.stem"), _stem_joins(config)
        for stage in range(len(sizes)):
            width = now[f"stream.{stage}"]
            inner = {n * reduce for name, n in now.items() if name.startswith(f"stage.{stage}.block")}
            if inner == {width}:
                sizes[stage] = width
        if joins:
            stem = sizes[0]
        elif stem == sizes[0] and not config.downsample_in_first_stage:
            return  # written so, the first shortcut convolution would be lost
        config.hidden_sizes, config.embedding_size = sizes, stem

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the blocks, over all stages."""
        return [path for _, _, path in _blocks(module)]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return the blocks whose shortcut changes the shape."""
        return frozenset(i for i, (_, _, path) in enumerate(_blocks(module)) if _has_shortcut(module, path))

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these blocks.

        Raises:
            ModelError: a stage would be left without a block.
        """
        kept = [_blocks(module)[i] for i in keep]
        config: Any = module.config
        depths = [sum(stage == s for stage, _, _ in kept) for s in range(len(config.depths))]
        if not all(depths):
            raise ModelError(f"stage {depths.index(0)} of the ResNet would be empty", "keep a block of every stage")
        for stage in range(len(depths)):
            there: Any = module.get_submodule(f"{STAGES}.{stage}.layers")
            blocks = [there[index] for s, index, _ in kept if s == stage]
            module.set_submodule(f"{STAGES}.{stage}.layers", nn.Sequential(*blocks))
        config.depths = depths

    def mend_(self, module: nn.Module) -> None:
        """Nothing to mend."""

    def embeddings(self, module: nn.Module) -> int:
        """Return 0: there are no tables."""
        return 0

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the stock classifier's Linear."""
        return ("classifier.1",)

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return blocks, and the widths of streams and inner channels."""
        groups = self.groups(module)
        return {
            "layers": len(self.layers(module)),
            "hidden_size": [g.units for g in groups if g.part == "stream"],
            "channels": [g.units for g in groups if g.part == "conv"],
        }

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields of a shape: half the blocks where nothing is wanted; hidden_size is the last stage's width.

        Raises:
            ModelError: there are fewer blocks than stages.
        """
        depths, sizes = list(config.depths), list(config.hidden_sizes)
        total = wanted.get("layers", sum(depths) if wanted else max(len(depths), sum(depths) // 2))
        if total < len(depths):
            raise ModelError(f"layers is {total}; a ResNet of {len(depths)} stages needs {len(depths)}", "raise it")
        new = [max(1, depth * total // sum(depths)) for depth in depths]
        while sum(new) != total:  # the rounding's remainder, one block at a time, to the stage that is furthest off
            step = 1 if sum(new) < total else -1
            gaps = [step * (depth * total / sum(depths) - n) for depth, n in zip(depths, new, strict=True)]
            new[max((i for i in range(len(new)) if new[i] + step >= 1), key=gaps.__getitem__)] += step
        width = wanted.get("hidden_size", sizes[-1])
        unit = 4 if config.layer_type == "bottleneck" else 1
        narrow = [max(1, round(size * width / sizes[-1] / unit)) * unit for size in sizes]
        stem = max(1, round(config.embedding_size * width / sizes[-1]))
        if _stem_joins(config):
            stem = narrow[0]
        return {"depths": new, "hidden_sizes": narrow, "embedding_size": stem}

    def scratch(self, values: dict[str, Any], processor: Any) -> dict[str, Any]:
        """Return values with the processor's number of colour channels."""
        return {**values, "num_channels": processor.channels}

    def longest(self, config: Any) -> int | None:
        """Return no bound."""
        return None

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return pixels, shape [batch, channels, length, length]."""
        return pixels(module, batch, length)


def pixels(module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
    """Return a ramp of pixel values from -1 to 1, shape [batch, channels, length, length]."""
    config: Any = module.config
    size = (batch, int(config.num_channels), length, length)
    first = next(module.parameters())
    ramp = torch.linspace(-1, 1, size[0] * size[1] * length * length, device=first.device, dtype=first.dtype)
    return {"pixel_values": ramp.reshape(size)}


def _blocks(module: nn.Module) -> list[tuple[int, int, str]]:
    stages: Any = module.get_submodule(STAGES)
    return [
        (s, b, f"{STAGES}.{s}.layers.{b}") for s, stage in enumerate(stages) for b in range(len(stage.layers))
    ]  # fmt: skip


def _stem_joins(config: Any) -> bool:
    return bool(config.embedding_size == config.hidden_sizes[0] and not config.downsample_in_first_stage)


def _has_shortcut(module: nn.Module, path: str) -> bool:
    return not isinstance(module.get_submodule(f"{path}.shortcut"), nn.Identity)


def _unit(path: str) -> tuple[Any, ...]:
    return (*linear(f"{path}.convolution", bias=False), *norm(f"{path}.normalization"))


def _width(module: nn.Module, path: str) -> int:
    weight: Any = module.get_submodule(f"{path}.convolution").weight
    return int(weight.shape[0])


def _inner(module: nn.Module, layer: int, stage: int, index: int, path: str) -> Iterator[Group]:
    convs: Any = module.get_submodule(f"{path}.layer")
    for conv in range(len(convs) - 1):
        here, after = f"{path}.layer.{conv}", f"{path}.layer.{conv + 1}"
        units = _width(module, here)
        yield Group(
            f"stage.{stage}.block.{index}.conv.{conv}", "channels", units, _unit(here),
            (reads(f"{after}.convolution"),), layer, "conv", multiple_of(units, MULTIPLE),
        )  # fmt: skip


def _streams(module: nn.Module, blocks: list[tuple[int, int, str]]) -> Iterator[Group]:
    """Walk the network once; a shortcut convolution ends one stream and begins the next."""
    name, layer, made, read = "stream.stem", 0, [*_unit(STEM)], []
    stem, streams = True, []
    for i, (stage, index, path) in enumerate(blocks):
        convs: Any = module.get_submodule(f"{path}.layer")
        read.append(reads(f"{path}.layer.0.convolution"))
        if _has_shortcut(module, path):
            read.append(reads(f"{path}.shortcut.convolution"))
            streams.append((name, layer, made, read))
            name, layer, made, read, stem = f"stream.{stage}", i, [*_unit(f"{path}.shortcut")], [], False
        elif stem and index == 0:
            name = f"stream.{stage}"  # the stem is added up in this stage as it is
        made += _unit(f"{path}.layer.{len(convs) - 1}")
    streams.append((name, layer, made, [*read, reads(_reader(module))]))
    for name, layer, made, read in streams:
        weight: Any = module.get_submodule(made[0].module).weight
        units = int(weight.shape[0])
        yield Group(name, "channels", units, tuple(made), tuple(read), layer, "stream", multiple_of(units, MULTIPLE))


def _reader(module: nn.Module) -> str:
    named = module.named_modules()
    return next(str(n) for n, m in named if n.startswith("classifier") and isinstance(m, nn.Linear))


FAMILY = ResNet()
