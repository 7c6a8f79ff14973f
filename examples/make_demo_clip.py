"""Make the demonstration clip: a SYNTHETIC talking face. Nobody said what it says, in a voice that is nobody's.

The picture is NASA's portrait of astronaut Eileen Collins (public domain), which scikit-image carries in its package;
this script moves it: the head turns and sways, eyes blink, the mouth speaks. The voice comes from `synthetic_speech`.
No network and no other data are needed, and the frames are the same every time.

    python examples/make_demo_clip.py demo/source.mp4
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, zoom
from synthetic_speech import SAMPLE_RATE, Utterance, speak

from tfcodec import TfcodecError
from tfcodec.media import write_video

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

FPS = 25
SIZE = 480
LEFT, TOP, SIDE = 85, 0, 280  # the part of the portrait that is shown, in its pixels; so are all places below
MARGIN, ENLARGED = 20, 3

# Mouth: middle of the lips, and their inner edges from corner to corner
MOUTH = (223.5, 146.0)
UPPER_LIP = ([203, 207, 211, 216, 222, 230, 236, 240, 245], [139.8, 141, 142.2, 143.4, 144, 144, 142.6, 141, 140.4])
LOWER_LIP = (
    [203, 205, 208, 211, 215, 219, 223, 228, 232, 236, 240, 243, 245],
    [139.8, 142, 144.6, 147, 149, 149.9, 150, 149.7, 148.6, 146.6, 144, 142, 140.4],
)
CHIN = 178.0
SEAM = np.array([112.0, 52.0, 48.0])  # where closed lips meet

# Eyes: upper edge (below the lashes) and lower edge from corner to corner, and where the lid's skin begins
EYES = (
    (
        [192, 195, 200, 205, 210, 215],
        [101.4, 99.8, 98.2, 98.2, 99.8, 103.8],
        [101.5, 102.6, 104.2, 105.2, 104.8, 104],
        93.0,
    ),
    (
        [236, 239, 242, 246, 250, 254, 259],
        [104.6, 102.4, 101, 100.5, 100.8, 102.4, 104.5],
        [105.4, 106, 106.5, 107, 106.7, 105.6, 104.6],
        95.5,
    ),
)


def portrait() -> Picture:
    """The portrait, [512, 512, 3] uint8 RGB, out of the scikit-image package."""
    spec = importlib.util.find_spec("skimage")
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else ""
    path = Path(folder) / "data" / "astronaut.png"
    if not path.is_file():
        raise SystemExit("the demonstration clip needs a picture out of scikit-image: pip install 'tfcodec[demo]'")
    import av

    with av.open(str(path)) as file:
        return np.asarray(next(file.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


def _step(x: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high` (or the other way round when low > high), smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _bump(x: Floats, y: Floats, at: tuple[float, float], sx: float, sy: float) -> Floats:
    return np.exp(-0.5 * (((x - at[0]) / sx) ** 2 + ((y - at[1]) / sy) ** 2))


class Puppet:
    """The portrait with strings: `pose(...)` gives a picture of it."""

    def __init__(self, size: int = SIZE) -> None:
        # Enlarged once by cubic splines, so that each frame can be sampled from it by the quicker linear rule.
        source = portrait().astype(np.float32)[: TOP + SIDE + MARGIN, : LEFT + SIDE + MARGIN]
        self._channels = [zoom(source[..., c], ENLARGED, order=3, grid_mode=True, mode="nearest") for c in range(3)]
        grid = (np.arange(size) + 0.5) * SIDE / size - 0.5
        self._x, self._y = np.meshgrid(grid + LEFT, grid + TOP)

    def _sample(self, x: Floats, y: Floats) -> Floats:
        where = (np.stack([y, x]) + 0.5) * ENLARGED - 0.5
        planes = [map_coordinates(c, where, order=1, mode="nearest") for c in self._channels]
        return np.stack(planes, axis=-1)

    def pose(
        self,
        *,
        sway: tuple[float, float] = (0, 0),
        roll: float = 0,
        yaw: float = 0,
        nod: float = 0,
        blink: float = 0,
        brow: float = 0,
        opening: float = 0,
        rounding: float = 0,
    ) -> Picture:
        """[size, size, 3] uint8 RGB. sway, yaw, nod, brow in pixels of the portrait, roll in radians, the rest as
        0...1."""
        x, y = self._head(sway, roll, yaw, nod)
        y = y + brow * (_bump(x, y, (202, 90), 16, 6) + _bump(x, y, (248, 93), 16, 6))
        # rounded lips, and an open jaw, make the mouth narrower
        x = MOUTH[0] + (x - MOUTH[0]) * (1 + (0.42 * rounding + 0.16 * max(0.0, opening)) * _bump(x, y, MOUTH, 24, 13))
        y = y + 1.2 * max(0.0, opening) * _bump(x, y, (MOUTH[0], 141), 14, 4)  # the upper lip rises a little
        sx, sy, inside, seam = self._mouth(x, y, opening)
        picture = self._sample(sx, sy)
        if blink > 0:
            lid_y, covered = self._lids(sx, sy, blink)
            picture += covered[..., None] * (self._sample(sx, lid_y) - picture)
        picture += seam[..., None] * (SEAM - picture)
        cavity, cover = self._cavity(x, y, opening)
        mix = (inside * cover)[..., None]
        picture = picture * (1 - mix) + cavity * mix
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8)

    def _head(self, sway: tuple[float, float], roll: float, yaw: float, nod: float) -> tuple[Floats, Floats]:
        x, y = self._x, self._y
        radius = np.hypot((x - 228) / 88, (y - 95) / 95)
        head = _step(radius, 1.75, 1.0) * _step(y, 240, 168)
        # a head is about an ellipsoid, the nose stands out of it: near parts move more when it turns
        depth = np.sqrt(np.clip(1 - ((x - 224) / 92) ** 2 - ((y - 105) / 105) ** 2, 0, 1))
        depth = depth + 0.3 * _bump(x, y, (225, 125), 9, 14)
        dx = sway[0] + yaw * depth
        dy = sway[1] + nod * depth
        px, py = x - 225, y - 190  # turns about the neck
        dx = dx + (np.cos(roll) - 1) * px - np.sin(roll) * py
        dy = dy + np.sin(roll) * px + (np.cos(roll) - 1) * py
        body = 0.25 * (1 - head)  # shoulders follow a little
        still = _step(np.abs(x - 225), 150, 95)  # but the background does not
        return x - dx * head - sway[0] * body * still, y - dy * head

    def _edges(self, x: Floats, opening: float) -> tuple[Floats, Floats, Floats]:
        """Inner edges of the lips at x in the portrait (upper, lower) and how far the lower one is moved down."""
        upper, lower = np.interp(x, *UPPER_LIP), np.interp(x, *LOWER_LIP)
        wide = np.sqrt(np.clip(1 - ((x - MOUTH[0]) / 21) ** 2, 0, 1))
        closed = np.clip(1 - (opening + 0.05) / 0.45, 0, 1)
        down = -closed * (lower - upper + 0.9 * wide) + 8.0 * np.clip((opening - 0.3) / 0.7, 0, 1) * wide
        return upper, lower, down

    def _mouth(self, x: Floats, y: Floats, opening: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Where each pixel comes from, how far it lies between the lips (0...1), and how far where they meet."""
        upper, lower, down = self._edges(x, opening)
        edge = lower + down
        below = np.clip((y - edge) / (CHIN - 15 - edge), 0, 1)
        jaw = 6.5 * max(0.0, opening - 0.3) / 0.7 - 1.5 * max(0.0, 0.3 - opening) / 1.1
        cheeks = np.exp(-0.5 * ((x - 224) / 22) ** 2)
        shift = down * (1 - below) + jaw * cheeks * below
        shift = shift * _step(y, 208, CHIN)
        within = (x > 203) & (x < 245)
        lip = np.where(within, _step(y - edge, -0.5, 0.5), _step(y, 138, 150))
        inside = np.where(within, _step(y - upper, -0.4, 0.6) * (1 - lip), 0.0)
        closed = float(np.clip(1 - (opening + 0.05) / 0.35, 0, 1))
        line = np.exp(-0.5 * ((y - edge) / 0.9) ** 2) * _step(np.abs(x - MOUTH[0]), 22, 16)
        return x, y - shift * lip, inside, 0.6 * closed * line

    def _cavity(self, x: Floats, y: Floats, opening: float) -> tuple[Floats, Floats]:
        """What is seen between the lips below the upper teeth, and where it is seen: dark, with the tongue at its
        bottom."""
        _, lower, down = self._edges(x, opening)
        teeth = np.minimum(lower - 0.6, 148.6)
        cover = _step(y - teeth, -0.5, 0.7)
        dark = np.array([52.0, 20.0, 18.0])
        tongue = np.array([158.0, 78.0, 76.0])
        amount = 0.85 * _bump(x, y, (MOUTH[0], float(np.max(lower + down)) + 0.5), 10, 2.6)
        return dark + amount[..., None] * (tongue - dark), cover

    def _lids(self, x: Floats, y: Floats, blink: float) -> tuple[Floats, Floats]:
        """Where the pixels of the closing lids come from, and how far (0...1) each pixel is covered by a lid."""
        covered = np.zeros_like(y)
        lash = 2.6  # thickness of the lashes, which move but are not stretched as the skin above is
        for xs, upper_edge, lower_edge, top in EYES:
            upper, lower = np.interp(x, xs, upper_edge), np.interp(x, xs, lower_edge)
            move = blink * np.maximum(lower - upper, 0)
            lid = upper + move
            skin = top + (y - top) * (upper - lash - top) / (lid - lash - top)
            within = (x > xs[0]) & (x < xs[-1]) & (y > top) & (y < lid + 1)
            covered = np.where(within, _step(y - lid, 0.5, -0.5), covered)
            y = np.where(within, np.where(y > lid - lash, y - move, skin), y)
        return y, covered


def _wander(time: Floats, seed: int, *periods: float) -> Floats:
    """A slow movement about 0, within -1...1: sines of the given periods in seconds."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(periods))
    return np.mean([np.sin(2 * np.pi * time / p + a) for p, a in zip(periods, phases, strict=True)], axis=0)


def _blinks(time: Floats) -> Floats:
    moments = np.array([0.7, 3.1, 5.2, 5.75])
    moments = np.concatenate([moments + 8 * k for k in range(int(time[-1] // 8) + 1)])
    away = np.abs(time[:, None] - moments).min(axis=1)
    return np.asarray(np.clip(1.45 - away / 0.075, 0, 1))


def animate(speech: Utterance, seconds: float, size: int = SIZE) -> Iterator[Picture]:
    """Yield the frames, [size, size, 3] uint8 RGB at 25 a second, of the portrait that says `speech`."""
    puppet = Puppet(size)
    time = np.arange(round(seconds * FPS)) / FPS
    at = np.minimum((time / 0.001).astype(int) + 20, len(speech.opening) - 1)
    opening, rounding = speech.opening[at], speech.rounding[at]
    effort = np.convolve(np.pad(np.maximum(opening, 0), 6, mode="edge"), np.ones(13) / 13, mode="valid")
    yaw = 5.5 * _wander(time, 1, 4.3, 2.3)
    nod = 3.0 * _wander(time, 2, 3.1, 1.3) - 3.5 * (effort - 0.3)  # the head goes along with the stress
    roll = 0.05 * _wander(time, 3, 5.1, 2.9)
    sway_x, sway_y = 4 * _wander(time, 4, 6.1, 3.7), 1.5 * _wander(time, 5, 4.7, 2.1)
    brow = 1.6 * np.clip(_wander(time, 6, 2.7, 1.7) + 0.4 * effort, 0, 1)
    blink = _blinks(time)
    for i in range(len(time)):
        yield puppet.pose(
            sway=(float(sway_x[i]), float(sway_y[i])),
            roll=float(roll[i]),
            yaw=float(yaw[i]),
            nod=float(nod[i]),
            blink=float(blink[i]),
            brow=float(brow[i]),
            opening=float(opening[i]),
            rounding=float(rounding[i]),
        )


def make_demo_clip(path: Path, seconds: float = 8.0, size: int = SIZE) -> None:
    """Write the clip, `size` x `size` at 25 frames a second with sound, to `path` (.mp4)."""
    speech = speak(seconds)
    write_video(path, animate(speech, seconds, size), FPS, speech.samples, SAMPLE_RATE)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a synthetic talking-face clip with sound.")
    parser.add_argument("output", type=Path, help="where to write it (.mp4)")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--size", type=int, default=SIZE, help="width and height in pixels (default: %(default)s)")
    options = parser.parse_args()
    try:
        make_demo_clip(options.output, options.seconds, options.size)
    except TfcodecError as error:
        print(f"make_demo_clip: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: a synthetic talking face, {options.seconds:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
