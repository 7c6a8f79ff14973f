"""Following the face through a clip, so that a crop can be laid around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tfcodec.errors import NoFaceError

if TYPE_CHECKING:
    from tfcodec.media.mtcnn import Face

Picture = NDArray[np.uint8]

SAME = 75  # frames (3 s) within which somebody in the same place is the same even if the scene has changed meanwhile
LOOK_EVERY = 5  # frames: five looks a second
# pixels; pictures are looked at in the first size, and in the second if that shows no face
SHORT_SIDES = (240, 480)
MIN_FACE = 20  # pixels at that size, so faces from 1/12 and 1/24 of the picture's short side
MIN_SHARE = 0.1  # of the looks must show the face
AWAY = 250  # frames (10 s) for which somebody may turn away or be hidden and is still there, unless the scene changes

# A crop of side 256 in the training clips has the eyes 50 pixels apart and 55 above the mouth (medians), and
# the middle between eyes and mouth 8 pixels below its own middle.
_SIDE_PER_EYES = 256 / 50
_SIDE_PER_EYES_TO_MOUTH = 256 / 55
_RAISE = 8 / 256


@dataclass(frozen=True)
class Sighting:
    """The square that would suit the face best in one frame: its middle and side, in source pixels."""

    frame: int
    x: float
    y: float
    side: float


@dataclass
class Found:
    """What `track` saw: sightings in order of time, and the frames at which the picture changes altogether."""

    sightings: list[Sighting]
    cuts: list[int]


@dataclass
class _Person:
    sightings: list[Sighting] = field(default_factory=list)

    @property
    def weight(self) -> float:
        return sum(s.side for s in self.sightings)  # large and long in the picture


def track(
    smaller: Callable[[int], Iterator[Picture]],
    scale: Callable[[int], float],
    count: int,
    progress: Callable[[int, int], None] | None,
    device: str = "cpu",
) -> Found:
    """Look for the face in five frames a second.

    smaller   smaller(short_side) gives the clip's frames at 25 a second, scaled down to about that size
    scale     scale(short_side) is source pixels per pixel of those
    count     how many frames there are
    device    where to look, as torch calls it

    Where there are several faces, the sightings are of the one that is largest and longest in the picture, and of
    the next one only while that one is away: for more than ten seconds, before or after, or in another scene. Raises
    NoFaceError when hardly any look shows a face, MediaError when the detector is not installed.
    """
    from tfcodec.media.mtcnn import Detector

    detector = Detector(device)
    looks = -(-count // LOOK_EVERY)
    best = 0
    for side in SHORT_SIDES:
        people: list[_Person] = []
        cuts: list[int] = []
        before: Picture | None = None
        for index, picture in enumerate(smaller(side)):
            thumbnail = picture[::8, ::8]
            if before is not None and _is_cut(before, thumbnail):
                cuts.append(index)
            before = thumbnail
            if index % LOOK_EVERY == 0:
                with _one_thread():
                    faces = detector(picture, MIN_FACE)
                for face in faces:
                    _assign(people, _suits(face, index, scale(side)), cuts[-1] if cuts else 0)
                if progress is not None:
                    progress(index + 1, count)
        sightings = _main_face(people)
        best = max(best, len(sightings))
        if sightings and len(sightings) >= MIN_SHARE * looks:
            return Found(sightings, cuts)
    seen = f"a face in only {best} of {looks} pictures looked at" if best else "no face found"
    raise NoFaceError(f'{seen}; crop="none" (--crop none) takes the centre of the picture')


@contextmanager
def _one_thread() -> Iterator[None]:
    # For networks this small, handing work to other threads takes longer than doing it, and tens of times longer
    # where other programs keep the cores busy.
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_cut(before: Picture, after: Picture) -> bool:
    return float(np.abs(before.astype(np.int16) - after).mean()) > 30


def _suits(face: Face, index: int, scale: float) -> Sighting:
    eyes = face.points[:2].mean(axis=0)
    mouth = face.points[3:].mean(axis=0)
    apart = float(np.linalg.norm(face.points[0] - face.points[1]))
    long = float(np.linalg.norm(eyes - mouth))
    # turning the head shortens the one, nodding the other; the longer of the two tells the size
    side = max(apart * _SIDE_PER_EYES, long * _SIDE_PER_EYES_TO_MOUTH) * scale
    middle = (eyes + mouth) / 2 * scale
    return Sighting(index, float(middle[0]), float(middle[1]) - _RAISE * side, side)


def _assign(people: list[_Person], seen: Sighting, cut: int) -> None:
    """Add a sighting to the person who was last seen nearest to it, or to a new one; ``cut``: the scene's beginning."""
    nearest, distance = None, 0.25
    for person in people:
        last = person.sightings[-1]
        away = seen.frame - last.frame
        if away == 0 or away > AWAY or (away > SAME and last.frame < cut):
            continue
        apart = max(abs(seen.x - last.x), abs(seen.y - last.y), abs(seen.side - last.side)) / last.side
        if apart < distance:
            nearest, distance = person, apart
    if nearest is None:
        nearest = _Person()
        people.append(nearest)
    nearest.sightings.append(seen)


def _main_face(people: list[_Person]) -> list[Sighting]:
    people = sorted(people, key=lambda person: person.weight, reverse=True)
    if people and len(people[0].sightings) > 1:
        people = [person for person in people if len(person.sightings) > 1]  # seen once only: likely no face
    chosen: list[Sighting] = []
    taken: list[tuple[int, int]] = []  # spans of time in which a weightier person is there
    for person in people:
        free = [s for s in person.sightings if not any(a <= s.frame <= b for a, b in taken)]
        chosen += free
        steps = [person.sightings[0], *person.sightings]
        taken += [(a.frame, b.frame) for a, b in pairwise(steps)]
    return sorted(chosen, key=lambda s: s.frame)
