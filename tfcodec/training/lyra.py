"""Training of what Lyra's indices are coded with (`tfcodec.speech.indices`): a recurrent network, fixed frequencies.

    python -m tfcodec.training.lyra extract train train.npz     # indices of the speech of `train`, of /speech, of `val`
    python -m tfcodec.training.lyra fit train.npz speech.npz -o network.pt --minutes 60
    python -m tfcodec.training.lyra export network.pt train.npz -o indices.bin
    python -m tfcodec.training.lyra rate indices.bin val.npz

The network is trained in floats, on pieces that begin without a past, as packets do. Exported, its weights are whole
numbers in 1/4096; `rate` measures with those, and with the range coder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..rates import SAMPLE_RATE
from ..speech import indices as coder
from ..speech.lyra import FRAME, LyraEncoder, codebooks

N, VALUES, STATE, HIDDEN = coder.FOLLOWED, coder.VALUES, coder.STATE, coder.HIDDEN
PIECE = 125
"""Frames of a piece, 2.5 s."""
BATCH = 16
FIRST = 4.0
"""Weight of a piece's first two frames in the loss: packets of calls have no others."""
GAIN = (-12.0, 6.0)
"""Recordings for training are made louder by so many dB, at random."""
HELD_OUT = 20
"""One person of so many is not trained on, but watched."""

Clips = list[NDArray[np.uint8]]


class Network(nn.Module):
    """What `tfcodec.speech.indices.Expectation` is in whole numbers: indices of frames to logits of the same."""

    def __init__(self) -> None:
        super().__init__()

        def weights(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) * scale)

        self.gates, self.gates_bias = weights(N * VALUES, 3 * STATE, scale=0.1), nn.Parameter(torch.zeros(3 * STATE))
        self.again = weights(3 * STATE, STATE, scale=STATE**-0.5)
        self.again_bias = nn.Parameter(torch.zeros(3 * STATE))
        self.last, self.up = weights(N * VALUES, HIDDEN, scale=0.05), weights(HIDDEN, STATE, scale=STATE**-0.5)
        self.start = nn.Parameter(torch.zeros(N, HIDDEN))
        self.own, self.out = weights(N, VALUES, HIDDEN, scale=0.05), weights(N, VALUES, HIDDEN, scale=0.02)
        self.bias = nn.Parameter(torch.zeros(N, VALUES))
        with torch.no_grad():
            self.gates_bias[:STATE] -= 1

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, 16] int64 to logits [B, T, 16, 16] of each index, given those before it."""
        batch, length = frames.shape[:2]
        one = nn.functional.one_hot(frames, VALUES).float()
        before = torch.cat([torch.zeros_like(one[:, :1]), one[:, :-1]], 1).reshape(batch * length, N * VALUES)
        said = (before @ self.gates).view(batch, length, -1) + self.gates_bias
        gates, changes = said[..., : 2 * STATE].unbind(1), said[..., 2 * STATE :].unbind(1)
        state, states = torch.zeros(batch, STATE), []
        for t in range(length):
            again = torch.addmm(self.again_bias, state, self.again.t())
            gate = torch.sigmoid(gates[t] + again[:, : 2 * STATE])
            wanted = torch.tanh(changes[t] + gate[:, STATE:] * again[:, 2 * STATE :])
            state = torch.lerp(state, wanted, gate[:, :STATE])
            states.append(state)
        sums = torch.stack(states, 1).reshape(batch * length, STATE) @ self.up.t() + before @ self.last
        own = torch.bmm(one.reshape(batch * length, N, VALUES).transpose(0, 1), self.own)
        seen = torch.cat([torch.zeros_like(own[:1]), own.cumsum(0)[:-1]], 0)
        hidden = torch.relu(seen + sums + self.start[:, None])
        logits = torch.bmm(hidden, self.out.transpose(1, 2)) + self.bias[:, None]
        return logits.view(N, batch, length, VALUES).permute(1, 2, 0, 3)


def extract(what: str) -> tuple[Clips, list[str]]:
    """Indices [T, 46] uint8 of recordings: of a split of the data, or "speech", all that is speech alone."""
    folder = Path(os.environ["TFCODEC_DATA"])
    if what == "speech":
        files = [folder / "speech" / row["file"] for row in _rows(folder / "speech" / "manifest.tsv")]
    else:
        rows = _rows(folder / "manifest.tsv")
        files = [folder / what / row["clip"] for row in rows if row["split"] == what and row["audio"] == "audio"]
    rng = np.random.default_rng(0)
    nearest = coder.IndexEncoder(coder.QUANTISERS, 1)
    clips, names = [], []
    for file in files:
        sound = _sound(file)
        if len(sound) < SAMPLE_RATE // 10:
            continue
        if what != "val":
            sound = np.clip(sound[int(rng.integers(FRAME)) :] * 10 ** (rng.uniform(*GAIN) / 20), -1, 1)
        encoder = LyraEncoder(coder.QUANTISERS, 20)
        sound = np.pad(sound, (0, -len(sound) % FRAME)).astype(np.float32)
        features = np.stack([encoder._frame(part) for part in sound.reshape(-1, FRAME)])
        clips.append(nearest.find(features, codebooks(), 0))
        names.append(file.name)
    return clips, names


def _sound(path: Path) -> NDArray[np.float32]:
    """The sound of a recording, [n] float32 at 16 kHz; none gives [0]."""
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        parts = [resampler.resample(frame) for frame in container.decode(audio=0)] if container.streams.audio else []
        parts += [resampler.resample(None)] if parts else []
    frames = [frame.to_ndarray().reshape(-1) for part in parts for frame in part]
    return np.concatenate(frames).astype(np.float32) / np.float32(32768) if frames else np.zeros(0, np.float32)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def save(path: Path, clips: Clips, names: list[str]) -> None:
    """Write what :func:`load` reads."""
    np.savez(path, idx=np.concatenate(clips), lens=np.array([len(clip) for clip in clips]), names=np.array(names))


def load(path: Path) -> tuple[Clips, list[str]]:
    """Clips [T, 46] uint8 and their names."""
    with np.load(path) as content:
        return np.split(content["idx"], np.cumsum(content["lens"])[:-1]), [str(name) for name in content["names"]]


def pieces(clips: Clips, rng: np.random.Generator, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Random pieces: indices [batch, 125, 16] int64 and which frames there are, [batch, 125] float32."""
    lengths = np.array([len(clip) for clip in clips], np.float64)
    values, there = np.zeros((batch, PIECE, N), np.int64), np.zeros((batch, PIECE), np.float32)
    for i, which in enumerate(rng.choice(len(clips), batch, p=lengths / lengths.sum())):
        clip = clips[which]
        first = int(rng.integers(-PIECE // 4, max(1, len(clip) - PIECE // 2)))
        part = clip[max(0, min(first, len(clip) - 2)) :][:PIECE, :N]
        values[i, : len(part)], there[i, : len(part)] = part, 1
    return torch.from_numpy(values), torch.from_numpy(there)


def bits(network: Network, frames: Tensor) -> Tensor:
    """What each frame [B, T, 16] costs, [B, T]."""
    logits = network(frames)
    loss = nn.functional.cross_entropy(logits.reshape(-1, VALUES), frames.reshape(-1), reduction="none")
    return loss.view(frames.shape).sum(2) / math.log(2)


@torch.no_grad()
def mean_bits(network: Network, clips: Clips) -> float:
    """Bits of a frame, in packets of 125."""
    total, count = 0.0, 0
    for clip in clips:
        for first in range(0, len(clip), PIECE):
            part = torch.from_numpy(clip[None, first : first + PIECE, :N].astype(np.int64))
            total, count = total + float(bits(network, part).sum()), count + part.shape[1]
    return total / count


def fit(clips: Clips, watched: Clips, minutes: float, start: Network | None = None, rate: float = 3e-3) -> Network:
    """Train for so long."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    network = start or Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    begun, step = time.monotonic(), 0
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 50) * max(0.003, 0.5 * (1 + math.cos(math.pi * done)))
        frames, there = pieces(clips, rng)
        weight = there.clone()
        weight[:, :2] *= FIRST
        loss = (bits(network, frames) * weight).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step}: {mean_bits(network, watched):.2f} bits a frame of those held out", flush=True)
    return network


def export(network: Network, clips: Clips) -> bytes:
    """The network in whole numbers, and the frequencies of the other indices in ``clips``, as a file of tables."""

    def whole(name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        values = getattr(network, name).detach().double().numpy().reshape(shape) * coder.UNIT
        return np.clip(np.round(values), -32768, 32767).astype(np.int64)

    arrays = {name: whole(name, shape) for name, kind, shape in coder.LAYOUT if kind == ">i2"}
    counts = np.stack([np.bincount(np.concatenate(clips)[:, k], minlength=VALUES) for k in range(N, coder.QUANTISERS)])
    arrays["fixed"] = np.maximum(1, 65535 * counts // counts.max(1, keepdims=True)).astype(np.int64)
    at = np.arange(coder.CURVE)
    arrays["logistic"] = np.round(coder.UNIT / (1 + np.exp(-(at - 1024 + 0.5) / 128))).astype(np.int64)
    arrays["falling"] = np.maximum(1, np.round(65535 * np.exp(-at / 128))).astype(np.int64)
    return coder.write_tables(coder.Tables(**arrays))


def measured(tables: coder.Tables, clips: Clips, quantisers: int, frames: int) -> dict[str, float]:
    """Bits of a frame as they are coded, in packets of so many frames, whole bytes and all."""
    encoder = coder.IndexEncoder(quantisers, frames, tables)
    size = count = 0
    for clip in clips:
        for first in range(0, len(clip), frames):
            part = clip[first : first + frames, :quantisers]
            size, count = size + len(encoder.encode(part)), count + len(part)
    return {"plain": 4.0 * quantisers, "coded": 8 * size / count}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("extract")
    p.add_argument("what", choices=("train", "speech", "val"))
    p.add_argument("out", type=Path)
    p = commands.add_parser("fit")
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("-o", "--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--rate", type=float, default=3e-3, help="of learning")
    p.add_argument("--start", type=Path, help="go on from this network")
    p = commands.add_parser("export")
    p.add_argument("network", type=Path)
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("-o", "--out", type=Path, required=True)
    p = commands.add_parser("rate")
    p.add_argument("tables", type=Path)
    p.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args(argv)
    if args.command == "extract":
        save(args.out, *extract(args.what))
        return
    loaded = [load(file) for file in args.files]
    clips = [clip for some, _ in loaded for clip in some]
    names = [name for _, some in loaded for name in some]
    if args.command == "rate":
        tables = coder.parse_tables(args.tables.read_bytes())
        for quantisers, frames in ((16, 250), (16, 2), (12, 250), (8, 250), (30, 250), (46, 125)):
            print(quantisers, frames, measured(tables, clips, quantisers, frames))
        return
    network = Network()
    if args.command == "export":
        network.load_state_dict(torch.load(args.network, weights_only=True))
        data = export(network, clips)
        args.out.write_bytes(data)
        print(hashlib.sha256(data).hexdigest())
        return
    if args.start:
        network.load_state_dict(torch.load(args.start, weights_only=True))
    held = set(sorted({name.split("_")[0] for name in names})[::HELD_OUT])
    watched = [clip for clip, name in zip(clips, names, strict=True) if name.split("_")[0] in held]
    others = [clip for clip, name in zip(clips, names, strict=True) if name.split("_")[0] not in held]
    torch.save(fit(others, watched, args.minutes, network, args.rate).state_dict(), args.out)


if __name__ == "__main__":
    main()
