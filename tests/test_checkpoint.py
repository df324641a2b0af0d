import torch
from torch import nn

from lessen import checkpoint
from lessen.context import Context


def test_the_newest_sound_checkpoint_is_read_and_a_damaged_one_skipped_with_a_warning(tmp_path):
    said = []
    ctx = Context(out_dir=tmp_path, emit=said.append)
    for step in (1, 2):
        checkpoint.write(tmp_path, step, {"w": torch.full((3,), float(step))}, {"step": step})
    step, tensors, meta = checkpoint.newest(tmp_path, ctx)
    assert (step, meta["step"]) == (2, 2)
    newest = tmp_path / "checkpoint-000000002.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-1] ^= 1
    newest.write_bytes(raw)
    step, tensors, _ = checkpoint.newest(tmp_path, ctx)
    assert step == 1
    assert tensors["w"].tolist() == [1, 1, 1]
    assert "damaged" in said[-1].message


def test_a_truncated_description_does_not_hide_the_older_checkpoint(tmp_path):
    for step in (1, 2):
        checkpoint.write(tmp_path, step, {"w": torch.zeros(1)}, {})
    (tmp_path / "checkpoint-000000002.json").write_text('{"step": 2, "sha')
    assert checkpoint.newest(tmp_path, Context(out_dir=tmp_path))[0] == 1


def test_two_checkpoints_and_the_best_weights_they_name_are_kept(tmp_path):
    for step in range(1, 6):
        (tmp_path / f"best-{step}.safetensors").write_bytes(b"x")
        checkpoint.write(tmp_path, step, {"w": torch.zeros(1)}, {"best_file": "best-3.safetensors"})
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == [
        "best-3.safetensors",
        "checkpoint-000000004.json",
        "checkpoint-000000004.safetensors",
        "checkpoint-000000005.json",
        "checkpoint-000000005.safetensors",
    ]


def test_the_optimizer_survives_the_way_through_a_file(tmp_path):
    def steps(net, optimizer, n):
        for _ in range(n):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    steps(net, optimizer, 3)
    tensors = checkpoint.optimizer_tensors(optimizer)
    other = nn.Linear(3, 2)
    other.load_state_dict(net.state_dict())
    restored = torch.optim.AdamW(other.parameters(), lr=0.1, fused=True)
    checkpoint.load_optimizer_(restored, tensors)
    steps(net, optimizer, 2)
    steps(other, restored, 2)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
