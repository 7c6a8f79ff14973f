"""The evaluation that decides which weights ship: it must judge what the decoder shows, and not be fooled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcodec
from benchmarks.measure import quality_arms, quality_val
from tfcodec.codec.file.decoder import read_exact
from tfcodec.model.registry import default_model, weights_file

NEUTRAL = {
    "lpips": 0.1, "psnr": 25.0, "ms_ssim": 0.9, "mouth_distance": 0.05, "mouth_shape_distance": 0.03,
    "mouth_lpips": 0.15, "identity_cosine": 0.8, "frame_difference_error": 2.0, "flicker_ratio": 0.9,
    "flicker_ratio_still": 1.0, "flicker_ratio_box32": 1.0, "eye_lpips": 0.12, "mouth_opening_correlation": 0.8,
    "eye_opening_correlation": 0.5,
}  # fmt: skip
DISTANCES = {quality_arms.DECODED: 1.0, quality_val.OLD: 1.0, "bicubic_8x8": 10.0, "coarse": 4.0, "box_means": 1.1}


def test_the_network_is_drawn_as_the_decoder_draws_it(moving_face: tuple[np.ndarray, np.ndarray]) -> None:
    frames, audio = moving_face
    data = tfcodec.encode(frames[:12], fps=25, audio=audio[: 12 * 640], sample_rate=16000, refine=False)
    parts, shown = read_exact(data), tfcodec.decode(data).frames
    assert shown is not None
    network = quality_arms.Network.load(weights_file(default_model()))
    fine, coarse = network.draw(parts, np.arange(12))
    assert np.abs(fine.astype(int) - shown).max() <= 1  # batches of other sizes may round differently
    assert coarse.shape == fine.shape
    some = np.array([0, 7, 11])
    assert np.abs(network.draw(parts, some)[0].astype(int) - shown[some]).max() <= 1
    silent = tfcodec.decode(tfcodec.encode(frames[:12], fps=25, refine=False)).frames
    assert silent is not None
    assert np.abs(network.draw(parts, some, speech=False)[0].astype(int) - silent[some]).max() <= 1
    assert network.gflop()["gflop_per_frame"] <= 5


def rows(new: dict[str, float], old: dict[str, float], clips: int = 8, noise: float = 0.0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    out = []
    for i in range(clips):
        ours = {k: v * (1 + noise * rng.normal()) for k, v in (NEUTRAL | new).items()}
        arms = {quality_arms.DECODED: ours, quality_val.OLD: NEUTRAL | old}
        out.append({"clip": f"{i}.mp4", "arms": arms})
    return out


BETTER = {"lpips": 0.09, "psnr": 25.5, "mouth_distance": 0.045, "mouth_lpips": 0.14}


def test_better_weights_are_found_better() -> None:
    verdict = quality_val.verdict(rows(BETTER, {}), DISTANCES, 3.0)
    assert verdict["better"]
    assert verdict["against"] == []
    assert verdict["score"] < 0.95
    assert verdict["clips_better"] == 1
    assert not quality_val.verdict(rows({}, BETTER), DISTANCES, 3.0)["better"]


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        ({}, "score 1"),
        ({**BETTER, "identity_cosine": 0.77}, "identity"),
        ({**BETTER, "eye_lpips": 0.13}, "eye_lpips"),
        ({**BETTER, "mouth_opening_correlation": 0.75}, "mouth_opening_correlation"),
        ({**BETTER, "eye_opening_correlation": 0.3}, "eye_opening_correlation"),
        ({**BETTER, "mouth_shape_distance": 0.04}, "mouth_shape"),
        ({**BETTER, "frame_difference_error": 2.2}, "frame_difference"),
        ({**BETTER, "flicker_ratio_box32": 1.3}, "flicker_ratio_box32 1.3"),
        ({**BETTER, "psnr": 24.7}, "rmse"),
    ],
)
def test_one_bad_measure_is_enough_against(worse: dict[str, float], reason: str) -> None:
    verdict = quality_val.verdict(rows(worse, {}), DISTANCES, 3.0)
    assert not verdict["better"]
    assert any(reason in line for line in verdict["against"])


def test_chance_and_cost_count_against() -> None:
    slightly = {"lpips": 0.0995}
    assert not quality_val.verdict(rows(slightly, {}, noise=0.1), DISTANCES, 3.0)["better"]
    assert any("GFLOP" in line for line in quality_val.verdict(rows(BETTER, {}), DISTANCES, 5.5)["against"])
    far = DISTANCES | {quality_arms.DECODED: 1.2}
    assert any("frechet" in line for line in quality_val.verdict(rows(BETTER, {}), far, 3.0)["against"])


def test_share_counts_the_right_side() -> None:
    both = rows({"lpips": 0.09, "psnr": 24.0}, {})
    assert quality_val.share(both, "lpips", quality_arms.DECODED, quality_val.OLD) == 1
    assert quality_val.share(both, "psnr", quality_arms.DECODED, quality_val.OLD) == 0


def test_the_table_knows_what_is_asked() -> None:
    some = rows(BETTER, {})
    for row in some:
        row["arms"] |= dict.fromkeys(("frozen_keyframe", "bicubic_8x8", "coarse", "single_frame", "no-audio"), NEUTRAL)
        row |= {"video_kbps": 2.06, "video_kbps_box_means": 2.0}
        row["arms"]["box_means"] = NEUTRAL | {"psnr": 24.6}
        row["blinks"] = {quality_arms.DECODED: {"source": 2, "shown": 2, "decoded": 2, "false": 0}}
        row["arms"]["without_speech"] = NEUTRAL | {"mouth_distance": 0.046}
    some[0]["blinks"][quality_arms.DECODED] = {"source": 9, "shown": 1, "decoded": 6, "false": 5}
    some[0]["blinks"]["frozen_keyframe"] = {"source": 9, "shown": 0, "decoded": 0, "false": 0}
    distances = DISTANCES | {"no-audio": 1.1}
    table = {line["measure"]: line for line in quality_val.table(some, distances, 3.2, "Frechet(x)", ["no-audio"])}
    lpips = table["LPIPS(alex), decoded / frozen keyframe"]
    assert (lpips["value"], lpips["at_least"], lpips["met"]) == (0.9, "<= 0.75", False)
    assert table["PSNR, decoded - frozen keyframe, dB"]["value"] == 0.5
    assert table["mouth-landmark distance, with speech / without"]["met"] is False
    # Networks are compared on the same stream: with box means, the network that ships is no better here.
    assert table["mouth-landmark distance, box means / no-audio"]["met"] is False
    assert table["Frechet(x), no-audio / box means"]["met"] is None
    assert table["PSNR, decoded - from box means, dB"]["value"] == 0.9
    assert table["video bits, decoded / with box means"]["value"] == 1.03
    assert table["GFLOP per frame"]["met"] is True
    # Blinks are counted over all clips together: 15 of 23 shown, 5 of 20 false.
    shown, false = (table[f"blinks {what}, share"] for what in (
        "of the source that are shown", "that the source does not have"))  # fmt: skip
    assert (shown["value"], shown["met"], false["value"], false["met"]) == (0.6522, False, 0.25, False)
    assert table["eye opening, correlation within clips whose eyes move"]["value"] == 0.5
    frozen = quality_val.blinks(some)["frozen_keyframe"]
    assert (frozen["shown_share"], frozen["false_share"]) == (0, None)


def test_what_was_not_measured_is_left_out_of_the_table() -> None:
    some = rows(BETTER, {})
    for row in some:
        row["arms"]["frozen_keyframe"] = NEUTRAL
        row |= {"video_kbps": 2.06, "video_kbps_box_means": 2.0}
        del row["arms"][quality_arms.DECODED]["eye_opening_correlation"]
    lines = {line["measure"] for line in quality_val.table(some, {quality_arms.DECODED: 1.0}, 3.2, "Frechet(x)", [])}
    assert "mouth opening, correlation within clips" in lines
    assert not [line for line in lines if "box means," in line or "eye opening" in line or "blinks" in line]


def blinking_curve(t: int) -> float:
    return 1.0 if t in (11, 12) else 0.3 if t in (10, 13) else 0.0


def test_openings_are_followed_over_all_frames(tmp_path: Path) -> None:
    class Meter:
        """Reads landmarks out of the pictures, where the test has put them."""

        def landmarks(self, frames: np.ndarray) -> np.ndarray:
            points = np.zeros((len(frames), 68, 2))
            points[:, 45, 0] = 100
            points[:, [40, 41, 46, 47], 1] = frames[:, 0, 0, :1]
            points[:, 65:68, 1] = frames[:, 0, 0, 1:2]
            return points

    frames = np.zeros((40, 16, 16, 3), np.uint8)
    frames[..., 0] = np.array([10 - 8 * blinking_curve(t) for t in range(40)])[:, None, None]
    frames[..., 1] = np.array([10 + 8 * np.sin(t / 3) for t in range(40)])[:, None, None]
    late = np.roll(frames, 20, 0)
    arms = {"same": frames, "late": late, "frozen": np.broadcast_to(frames[0], frames.shape)}
    for every in (1, 2):
        found = quality_arms.follow(tmp_path / "val" / "x.mp4", frames, arms, every, Meter())  # type: ignore[arg-type]
        assert found.moving == {"mouth_moves": True, "eyes_move": True}
        assert found.correlations["same"]["eye_opening_correlation"] == pytest.approx(1)
        assert found.correlations["frozen"]["mouth_opening_correlation"] == 0
        assert found.correlations["late"]["eye_opening_correlation"] < 0.2
        counts = {name: (b.source, b.shown, b.decoded, b.false) for name, b in found.blinks.items()}
        assert counts["same"] == (1, 1, 1, 0)
        assert counts["late"] == (1, 0, 1, 1)
        assert counts["frozen"] == (1, 0, 0, 0)
    still = quality_arms.follow(tmp_path / "x.mp4", np.repeat(frames[:1], 40, 0), arms, 1, Meter())  # type: ignore[arg-type]
    assert not still.moving["eyes_move"]
    assert "eye_opening_correlation" not in still.correlations["same"]
