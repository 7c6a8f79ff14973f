"""The report's figures, drawn with matplotlib: as SVG for the report, as PNG for documents. No picture of a person."""

from __future__ import annotations

import io
from typing import Any

from .analysis import WHOLE_CURVES
from .arms import CLASSICAL, DELAY_NAMES, TITLES
from .measure import METRICS
from .speech import METRICS as SPEECH_METRICS
from .speech import TITLES as SPEECH_TITLES
from .speech import label as speech_label

Row = dict[str, Any]
COLOURS = {
    "tfcodec": "#c8102e", "frozen": "#7f7f7f", "bicubic8": "#b8a04a", "x264": "#2e8b57", "x265": "#1f5fb4",
    "svtav1": "#8a4fbf",
}  # fmt: skip
PARTS = {
    "container": "#9a9a9a", "keyframe": "#c8102e", "tiny": "#f2a900", "motion": "#2e8b57",
    "displacement": "#8a4fbf", "layers": "#c4a000", "inter": "#1f5fb4", "speech": "#cfd8e3",
}  # fmt: skip
_DASHES = {256: "-", 128: "--", 64: ":", 8: "-"}
BPP_PER_KBPS = 1000 / 25 / 256**2


def _figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({
        "svg.hashsalt": "tfcodec", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False,
        "font.family": ["DejaVu Sans", "sans-serif"],
    })  # fmt: skip
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def svg(figure: Any) -> str:
    """A figure as an SVG element, the same text for the same data."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def png(figure: Any, dpi: int = 130) -> bytes:
    """A figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def _draw_curve(axes: Any, curve: list[Row], metric: str) -> None:
    codec, size = curve[0]["codec"], curve[0]["size"]
    points = [p for p in curve if metric in p["metrics"]]
    if not points:
        return
    label = TITLES[codec] + (f", {size}x{size}" if codec in CLASSICAL and size != 256 else "")
    bold = codec == "tfcodec"
    axes.plot(
        [p["kbps"] for p in points], [p["metrics"][metric] for p in points], _DASHES[size], color=COLOURS[codec],
        marker="o", markersize=5 if bold else 3, linewidth=2.2 if bold else 1.1, label=label, zorder=3 if bold else 2,
        alpha=1 if size in (256, 8) else 0.6,
    )  # fmt: skip


def rate_distortion(curves: dict[str, list[Row]], delay: str, metrics: list[str], title: str) -> Any:
    """Curves of one delay class against rate, one panel a metric; better is up in every panel."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = _figure(4.2 * columns, 3.4 * rows + 0.7, columns, rows)
    flat = list(axes.ravel())
    for panel, metric in zip(flat, metrics, strict=False):
        info = METRICS[metric]
        for codec in ("x264", "x265", "svtav1", "bicubic8", "frozen", "tfcodec"):
            for curve in curves.values():
                # What has no delay of its own (the tiny frames alone) is the same in both classes.
                if curve[0]["codec"] == codec and (curve[0]["delay"] == delay or codec == "bicubic8"):
                    _draw_curve(panel, curve, metric)
        panel.set_xscale("log")
        panel.set_xlabel("video rate, kbit/s")
        unit = f" ({info.unit})" if info.unit else ""
        panel.set_ylabel(f"{info.title}{unit}, {_WHICH[info.better]} is better")
        if info.better < 0:
            panel.invert_yaxis()
        _ticks(panel)
        upper = panel.secondary_xaxis("top", functions=(lambda x: x * BPP_PER_KBPS, lambda x: x / BPP_PER_KBPS))
        upper.set_xlabel("bits per pixel", fontsize=7)
        upper.tick_params(labelsize=7)
        low, high = (x * BPP_PER_KBPS for x in panel.get_xlim())
        upper.xaxis.set_major_locator(FixedLocator([t for t in _BPP_TICKS if low <= t <= high]))
        upper.xaxis.set_minor_locator(NullLocator())
        upper.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    for panel in flat[len(metrics) :]:
        panel.set_visible(False)
    handles, labels = flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, max(1, len(labels))), fontsize=8)
    figure.suptitle(f"{title} ({DELAY_NAMES[delay]})", fontsize=10)
    return figure


_BPP_TICKS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def main_figure(curves: dict[str, list[Row]], title: str) -> Any:
    """The picture for a README: both delay classes, the two measures that matter most, pictures of 256x256 only."""
    kept = {k: c for k, c in curves.items() if c[0]["size"] == 256}
    metrics = [m for m in ("lpips", "psnr") if any(m in p["metrics"] for c in kept.values() for p in c)]
    figure, axes = _figure(9.6, 3.3 * len(metrics) + 0.6, 2, len(metrics), sharey="row", sharex=True)
    for line, metric in zip(axes, metrics, strict=True):
        for panel, delay in zip(line, ("file", "call"), strict=True):
            for codec in ("x264", "x265", "svtav1", "frozen", "tfcodec"):
                for curve in kept.values():
                    if curve[0]["codec"] == codec and curve[0]["delay"] == delay:
                        _draw_curve(panel, curve, metric)
            panel.set_xscale("log")
            _ticks(panel)
        info = METRICS[metric]
        line[0].set_ylabel(f"{info.title}{f' ({info.unit})' if info.unit else ''}, {_WHICH[info.better]} is better")
        if info.better < 0:
            line[0].invert_yaxis()
    for panel, delay in zip(axes[0], ("file", "call"), strict=True):
        panel.set_title(DELAY_NAMES[delay], fontsize=10)
    for panel in axes[-1]:
        panel.set_xlabel("video rate, kbit/s")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(f"Mean over {title}", fontsize=10)
    return figure


def contact_sheet(columns: list[tuple[str, str, Any]]) -> Any:
    """Pictures [K, H, W, 3] uint8 of several arms side by side, (title, line below it) above each column."""
    count = len(columns[0][2])
    figure, axes = _figure(2.1 * len(columns), 2.1 * count + 0.5, len(columns), count)
    for x, (title, line, pictures) in enumerate(columns):
        for y, picture in enumerate(pictures):
            axes[y, x].imshow(picture)
            axes[y, x].set_axis_off()
        axes[0, x].set_title(f"{title}\n{line}", fontsize=7.5)
    return figure


_WHICH = {1: "higher", -1: "lower"}


def _ticks(panel: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = panel.get_xlim()
    steps = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    panel.xaxis.set_major_locator(FixedLocator(steps))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_locator(NullLocator())


def byte_parts(curves: dict[str, list[Row]], title: str) -> Any:
    """Stacked bars: where the bytes of each point go, speech included, in kbit/s."""
    chosen = [p for d in ("file", "call") for p in curves.get(f"tfcodec-{d}-256", [])]
    for codec in ("x265", "svtav1"):
        chosen += curves.get(f"{codec}-file-256", [])[:1] + curves.get(f"{codec}-call-256", [])[:1]
    figure, axes = _figure(9, 0.32 * len(chosen) + 1.2)
    panel = axes[0, 0]
    used: list[str] = []
    for y, point in enumerate(chosen):
        left, per_byte = 0.0, 8 / 1000 / point["seconds"]
        for part, colour in PARTS.items():
            width = point["speech_kbps"] if part == "speech" else point["parts"].get(part, 0) * per_byte
            panel.barh(y, width, left=left, color=colour, label=part if part not in used and width else None)
            used += [part] if width else []
            left += width
    names = [
        f"{TITLES[p['codec']]} {'q' if p['codec'] not in CLASSICAL else 'crf '}{p['point']}, {DELAY_NAMES[p['delay']]}"
        for p in chosen
    ]
    panel.set_yticks(range(len(chosen)), names)
    panel.invert_yaxis()
    panel.set_xlabel("kbit/s in the file (classical files hold no speech)")
    panel.set_title(title, fontsize=10)
    panel.legend(loc="lower right")
    return figure


def ratios(equal: list[Row], title: str) -> Any:
    """Per clip: bits that others need for tfcodec's LPIPS, as multiples of tfcodec's; median marked."""
    figure, axes = _figure(8, 0.5 * len(equal) + 1.3)
    panel = axes[0, 0]
    for y, entry in enumerate(equal):
        for bound, marker in (("=", "o"), ("<", "<"), (">", ">")):
            of = [c["ratio"] for c in entry["per_clip"] if c["bound"] == bound]
            panel.plot(of, [y] * len(of), marker, color=COLOURS[entry["rival"]], alpha=0.55, markersize=6)
        panel.plot([entry["ratio"]["median"]] * 2, [y - 0.3, y + 0.3], color="black", linewidth=1.5)
    panel.set_yticks(range(len(equal)), [f"{TITLES[e['rival']]}, {DELAY_NAMES[e['delay']]}" for e in equal])
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.axvline(1, color="#c8102e", linewidth=1)
    _ticks(panel)
    panel.set_xlabel(
        "multiple of tfcodec's bits for tfcodec's LPIPS, one mark a clip, median black\n"
        "(< : its coarsest setting is better already;  > : its finest is still worse)"
    )
    panel.set_title(title, fontsize=10)
    return figure


SPEECH_COLOURS = {"opus": "#1f5fb4", "lyra": "#c8102e", "codec2": "#b8a04a", "amr": "#2e8b57"}


def speech_codecs(means: dict[str, Row], title: str) -> Any:
    """Speech codecs at their rates in files, one panel a metric; better is up."""
    metrics = [m for m in SPEECH_METRICS if any(m in row for row in means.values())]
    figure, axes = _figure(3.3 * len(metrics), 3.6, len(metrics))
    for panel, metric in zip(axes[0], metrics, strict=True):
        for name, colour in SPEECH_COLOURS.items():
            points = sorted(
                (row["kbps"], row[metric]) for codec, row in means.items()
                if codec.startswith(f"{name}:") and metric in row
            )  # fmt: skip
            if points:
                label = SPEECH_TITLES[name]
                panel.plot(*zip(*points, strict=True), "-o", color=colour, label=label, markersize=4)
        panel.set_xscale("log")
        panel.set_xlabel("speech rate, kbit/s")
        panel.set_ylabel(SPEECH_METRICS[metric].title)
        _ticks(panel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize=10)
    return figure


def whole_streams(streams: list[Row], title: str) -> Any:
    """Stacked bars: pictures and speech of whole streams."""
    figure, axes = _figure(9, 0.32 * len(streams) + 1.2)
    panel = axes[0, 0]
    ordered = sorted(streams, key=lambda s: s["video_kbps"] + s["speech_kbps"])
    for y, stream in enumerate(ordered):
        video, speech = stream["video_kbps"], stream["speech_kbps"]
        label = ("pictures", "speech") if y == 0 else (None, None)
        panel.barh(y, video, color=PARTS["keyframe"], label=label[0])
        panel.barh(y, speech, left=video, color=PARTS["speech"], label=label[1])
        panel.text(video + speech, y, f" {video + speech:.1f}", va="center", fontsize=8)
    panel.set_yticks(range(len(ordered)), [f"{s['title']}, {speech_label(s['speech'])}" for s in ordered])
    panel.invert_yaxis()
    panel.set_xlabel("whole stream, kbit/s")
    panel.set_title(title, fontsize=10)
    panel.legend(loc="lower right")
    return figure


SPEECH_DASHES = {"opus": "-", "lyra": "--", "codec2": ":", "amr": "-."}


def whole_curves(part: Row, title: str) -> Any:
    """Whole streams: LPIPS against rate with the speech, in both delay classes; below, how the speech sounds at which
    rate of a file whose pictures have tfcodec's LPIPS at its default quality."""
    heard = [m for m in ("visqol", "dnsmos", "pesq", "stoi") if any(m in row for row in part["speech"].values())][:2]
    figure, axes = _figure(9.6, 7.2 if heard else 4.2, 2, 2 if heard else 1)
    for panel, delay in zip(axes[0], ("file", "call"), strict=True):
        for curve in part["whole_curves"]:
            if curve["delay"] == delay:
                codec, voice = curve["codec"], curve["speech"].partition(":")[0]
                points = [(p["kbps"], p["lpips"]) for p in curve["points"]]
                panel.plot(*zip(*points, strict=True), SPEECH_DASHES[voice], color=COLOURS[codec], marker="o",
                           markersize=3, linewidth=2 if codec == "tfcodec" else 1,
                           label=f"{TITLES[codec]}, {SPEECH_TITLES[voice]}")  # fmt: skip
        panel.set_title(DELAY_NAMES[delay], fontsize=10)
        panel.set_ylabel(f"LPIPS, {_WHICH[-1]} is better")
        panel.invert_yaxis()
    voices = {codec: {name.partition(":")[0] for name in names} for codec, names in WHOLE_CURVES}
    pictures = {p["codec"]: p["kbps"] for p in part["curves"].get("tfcodec-file-256", []) if p["point"] == 5}
    pictures |= {e["rival"]: e["kbps"] for e in part["equal_lpips"] if e["delay"] == "file" and e["rival"] in CLASSICAL}
    for panel, metric in zip(axes[1] if heard else (), heard, strict=False):
        for codec, video in pictures.items():
            for voice in sorted(voices[codec]):
                points = sorted((video + row["kbps"], row[metric]) for name, row in part["speech"].items()
                                if name.startswith(f"{voice}:") and metric in row)  # fmt: skip
                if points:
                    panel.plot(*zip(*points, strict=True), SPEECH_DASHES[voice], color=COLOURS[codec], marker="o",
                               markersize=3, linewidth=2 if codec == "tfcodec" else 1)  # fmt: skip
        panel.set_title("speech, beside pictures of equal LPIPS", fontsize=10)
        panel.set_ylabel(f"{SPEECH_METRICS[metric].title}, {_WHICH[SPEECH_METRICS[metric].better]} is better")
    for panel in axes.ravel():
        panel.set_xscale("log")
        panel.set_xlabel("whole stream, kbit/s")
        _ticks(panel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def figures(analysis: Row, name: str, title: str) -> dict[str, Any]:
    """All figures of one set of clips, by file name without suffix."""
    part = analysis[name]
    curves = part["curves"]
    have = {m for c in curves.values() for p in c for m in p["metrics"]}
    metrics = [m for m in METRICS if m in have]
    out: dict[str, Any] = {}
    for delay in ("file", "call"):
        if metrics and any(c[0]["delay"] == delay for c in curves.values()):
            out[f"rate_distortion_{delay}"] = rate_distortion(curves, delay, metrics, title)
    if any(n.startswith("tfcodec") for n in curves):
        out["bytes"] = byte_parts(curves, f"{title}: where the bytes go")
    if part["equal_lpips"]:
        out["equal_lpips"] = ratios(part["equal_lpips"], f"{title}: bits at equal LPIPS")
    if part.get("whole"):
        out["whole"] = whole_streams(part["whole"], f"{title}: pictures and speech in files")
    if part.get("whole_curves"):
        out["whole_stream"] = whole_curves(part, f"{title}: pictures and speech")
    if any(m in row for row in part.get("speech", {}).values() for m in SPEECH_METRICS):
        out["speech"] = speech_codecs(part["speech"], f"{title}: speech codecs")
    return out
