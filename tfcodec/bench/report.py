"""The report: one HTML file with figures, tables and players inside, nothing loaded from anywhere.

Players in a folder of their own (`folder`) are the exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from . import plots
from .arms import CLASSICAL, DELAY_NAMES, TITLES, Arm
from .classical import options
from .measure import METRICS
from .players import Player
from .speech import METRICS as SPEECH_METRICS
from .speech import label

Row = dict[str, Any]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2530;max-width:1180px;margin:0 auto;padding:1.5em;background:#fff}
h1{font-size:1.7em;margin:.2em 0}h2{margin-top:2em;border-bottom:1px solid #d5dbe2;padding-bottom:.2em}
table{border-collapse:collapse;font-size:13px;margin:.8em 0}th,td{padding:.25em .7em;text-align:right}
th{border-bottom:2px solid #8894a2;vertical-align:bottom}td{border-bottom:1px solid #e6eaee}
td:first-child,th:first-child{text-align:left}tr.own td{background:#fdeef0}figure{margin:1em 0;overflow-x:auto}
figure svg{max-width:100%;height:auto}video{width:100%;max-width:1024px;display:block;background:#000}
.columns{display:flex;max-width:1024px}.columns div{flex:1;font-size:12px;padding:.1em .3em}.player{margin:1.2em 0}
.note{color:#55606c;font-size:13px;max-width:60em}summary{cursor:pointer}details{margin:.5em 0}
.scroll{overflow-x:auto}
"""
_BOUNDS = {"=": "", "<": "at most ", ">": "at least "}


def _table(head: Iterable[str], lines: Iterable[tuple[bool, list[str]]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr{' class=own' if own else ''}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for own, cells in lines
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float | None, digits: int) -> str:
    """A figure for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _metric(row: Row, metric: str) -> str:
    return number(row["metrics"].get(metric), METRICS[metric].digits)


def _present(rows: Iterable[Row]) -> list[str]:
    have = {m for r in rows for m, v in r["metrics"].items() if v is not None}
    return [m for m in METRICS if m in have]


def _title(codec: str, size: int) -> str:
    return TITLES[codec] + (f" at {size}x{size}" if codec in CLASSICAL and size != 256 else "")


def _equal_table(equal: list[Row]) -> str:
    metrics = [m for m in METRICS if any(e["metrics"].get(m) is not None for e in equal)]
    head = [
        "needs, for tfcodec's LPIPS",
        "class",
        "kbit/s",
        "tfcodec",
        "ratio: median",
        "10 % … 90 %",
        "min … max",
        "of mean rates",
        "with speech",
    ]
    head += ["floor"] + [f"{METRICS[m].title}: it / tfcodec" for m in metrics]
    lines = []
    for e in equal:
        r = e["ratio"]
        cells = [
            TITLES[e["rival"]], DELAY_NAMES[e["delay"]], f"{e['kbps']:.2f}", f"{e['tfcodec_kbps']:.2f}",
            f"{r['median']:.2f}", f"{r['p10']:.2f} … {r['p90']:.2f}", f"{r['min']:.2f} … {r['max']:.2f}",
            f"{r['of_mean_rates']:.2f}", f"{e['whole']['ratio']:.2f}",
            f"{e['at_most']} <, {e['at_least']} > of {e['clips']}",
        ]  # fmt: skip
        d = {m: METRICS[m].digits for m in metrics}
        cells += [f"{number(e['metrics'].get(m), d[m])} / {number(e['tfcodec_metrics'].get(m), d[m])}" for m in metrics]
        lines.append((False, cells))
    return _table(head, lines)


def _curve_table(curves: dict[str, list[Row]]) -> str:
    points = [p for c in curves.values() for p in c]
    metrics = _present(points)
    head = ["arm (mean over clips)", "class", "kbit/s", "bits/pixel", "bytes/frame", "payload B", "file B"]
    head += ["speech kbit/s", "with speech", *(METRICS[m].title for m in metrics)]
    lines = []
    for p in points:
        setting = f"CRF {p['point']}" if p["codec"] in CLASSICAL else f"quality {p['point']}"
        cells = [
            f"{_title(p['codec'], p['size'])}, {setting}", DELAY_NAMES[p["delay"]], f"{p['kbps']:.2f}",
            f"{p['bpp']:.6f}", f"{p['bytes_per_frame']:.1f}", f"{p['payload_bytes']:.0f}", f"{p['file_bytes']:.0f}",
            f"{p['speech_kbps']:.2f}", f"{p['total_kbps']:.2f}", *(_metric(p, m) for m in metrics),
        ]  # fmt: skip
        lines.append((p["codec"] == "tfcodec", cells))
    return _table(head, lines)


def _bd_table(rates: list[Row]) -> str:
    lines = []
    for r in rates:
        codec, _, size = r["anchor"].split("-")
        value = "too little overlap" if r["bd_rate"] is None else f"{r['bd_rate']:+.1f} %"
        cells = [
            _title(codec, int(size)),
            DELAY_NAMES[r["delay"]],
            METRICS[r["metric"]].title,
            value,
            f"{100 * r['overlap']:.0f} %",
        ]
        lines.append((False, cells))
    return _table(["tfcodec's bits against", "class", "at equal", "BD-rate", "overlap, of tfcodec's range"], lines)


def _reach_table(reach: list[Row]) -> str:
    lines = []
    for r in reach:
        info = METRICS[r["metric"]]
        cells = [
            TITLES[r["rival"]], DELAY_NAMES[r["delay"]], info.title, number(r["tfcodec_best"], info.digits),
            f"{r['tfcodec_kbps']:.2f}", f"{_BOUNDS[r['bound']]}{r['kbps']:.2f}",
        ]  # fmt: skip
        lines.append((r["bound"] != ">" and r["kbps"] < r["tfcodec_kbps"], cells))
    head = ["codec", "class", "metric", "tfcodec's best", "at kbit/s", "the codec has it at kbit/s"]
    return _table(head, lines)


def _speech_table(means: dict[str, Row], metrics: list[str]) -> str:
    head = ["codec (mean over clips)", "clips", "file, kbit/s", "call, kbit/s"]
    head += [SPEECH_METRICS[m].title for m in metrics]
    lines = [
        (False, [
            label(codec), str(row["clips"]), f"{row['kbps']:.2f}", f"{row['call_kbps']:.2f}",
            *(number(row.get(m), SPEECH_METRICS[m].digits) for m in metrics),
        ])
        for codec, row in means.items()
    ]  # fmt: skip
    return _table(head, lines)


_HEARD = ("whole_stream", "whole", "speech")


def _speech(part: Row, result: Row, drawn: Row) -> str:
    """What is heard, and whole streams."""
    reasons = "; ".join(f"{name}: {why}" for name, why in result["speech_left_out"].items())
    note = (
        "Packets alone, all of them sent, at 120 ms (Opus), 80 ms (Codec2) and 5 s (Lyra) in files and 40 ms in calls, "
        "decoded against the clip's own sound with half a second of silence around both. Of AMR-NB "
        "the byte before each frame is not counted. Clips without speech are left out."
    )
    out = "".join(f"<figure id={key}>{plots.svg(drawn[key])}</figure>" for key in _HEARD if key in drawn)
    if part["speech"]:
        out += f"<p class=note>{note}</p>{_speech_table(part['speech'], result['speech_metrics'])}"
    return out + (f"<p class=note>Left out: {escape(reasons)}</p>" if reasons else "")


def _clip_tables(rows: list[Row]) -> str:
    out = []
    for clip in sorted({r["clip"] for r in rows}):
        of = sorted(
            (r for r in rows if r["clip"] == clip), key=lambda r: (r["codec"], r["delay"], -r["size"], r["kbps"])
        )
        metrics = _present(of)
        head = [
            "arm",
            "kbit/s",
            "bits/pixel",
            "bytes/frame",
            "payload B",
            "file B",
            "speech B",
            *(METRICS[m].title for m in metrics),
        ]
        lines = [
            (r["codec"] == "tfcodec", [
                r["arm"], f"{r['kbps']:.2f}", f"{r['bpp']:.6f}", f"{r['bytes_per_frame']:.1f}", str(r["payload_bytes"]),
                str(r["file_bytes"]), str(r["speech_bytes"]), *(_metric(r, m) for m in metrics),
            ])
            for r in of
        ]  # fmt: skip
        summary = f"{escape(clip)}: {of[0]['seconds']:.2f} s, {of[0]['frames']} frames"
        out.append(f"<details><summary>{summary}</summary>{_table(head, lines)}</details>")
    return "".join(out)


def players_inside(players: list[Player], left_out: int, clips: int) -> str:
    """The players as HTML, the videos in it. ``left_out`` of them are too large; there are ``clips`` in all."""
    if not players:
        return "<p>No players.</p>"
    out = []
    for p in players:
        heads = "".join(f"<div><b>{escape(t)}</b><br>{escape(line)}</div>" for t, line in p.columns)
        out.append(
            f'<div class="player"><div class="columns">{heads}</div>'
            f'<video controls loop preload="metadata" playsinline src="{p.data_uri}"></video>'
            f'<div class="note">{escape(p.clip)}</div></div>'
        )
    note = f"{len(players)} of {clips} clips, at most 6 s each" + (
        f"; {left_out} more left out for their size" if left_out else ""
    )
    return (
        f'<p class="note">{note}. Coded once more for display (H.264, high quality), with the source\'s sound.</p>'
        + "".join(out)
    )


def _settings(arms: list[Arm], result: Row) -> str:
    seen: dict[str, list[int]] = {}
    for arm in arms:
        seen.setdefault(arm.curve, []).append(arm.point)
    lines = []
    for curve, points in seen.items():
        arm = min((a for a in arms if a.curve == curve), key=lambda a: a.point)
        text = (
            " ".join(f"{k}={v}" for k, v in options(arm).items() if k != "crf")
            if arm.codec in CLASSICAL
            else "quality ladder"
        )
        lines.append((False, [curve, ", ".join(map(str, points)), text]))
    metrics = "".join(
        f"<li>{escape(METRICS[m].title)}: {escape(METRICS[m].definition)}</li>" for m in result["metrics"]
    )
    absent = "".join(
        f"<li>{escape(METRICS[m].title)}: {escape(why)}</li>" for m, why in result["metrics_left_out"].items()
    )
    environment = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    return (
        _table(["curve", "points", "settings"], lines)
        + f"<p>Metrics, at every {result['every']}th frame (motion: from it to the next):</p><ul>{metrics}</ul>"
        + (f"<p>Left out:</p><ul>{absent}</ul>" if absent else "")
        + f"<p>Self-test of the metrics (identical, blurred, frozen, unrelated): {escape(result['self_test'])}</p>"
        + f"<p class=note>{escape(environment['date'])}; {escape(str(environment['processor']))}, "
        f"{environment['cores']} cores; Python {escape(environment['python'])}; {escape(versions)}; "
        f"{escape(environment['encoders'])}; network {escape(result['network'])}</p>"
    )


_ACCOUNTING = """
<p>Every byte is counted in the file that was written, and every picture is decoded from that file. <b>Rate</b> is all
of tfcodec's file but the speech (container, checksums, keyframes, tiny frames); of the classical codecs it is only the
payload (coded frames and parameter sets, without x264's and x265's information messages), because their MP4 boxes,
another 1 to 2 KB a clip, say nothing about the codec: the comparison favours them. File sizes are in the tables.
Speech is in a column of its own; the classical files hold none, and the same speech packets would fit them: totals
with speech count those of tfcodec at quality 5.
<b>frozen keyframe</b> is a file with tfcodec's keyframes alone, each shown until the next; <b>8x8, bicubic</b> is the
tiny frames alone, enlarged. LPIPS forgives a still picture: read it together with PSNR, the mouth and the
frame-difference error. <b>Random access</b> and <b>low delay</b> are never compared with one another: tfcodec's files
look ahead; its calls send two frames in a packet, whose heads are counted, and look at nothing beyond it. One intra
frame for the classical codecs, slow presets, one thread, up to the coarsest CRF of each; SVT-AV1's beyond 63, where
FFmpeg's option ends, is given as <code>crf=</code> in <code>svtav1-params</code>.</p>
"""


def build(result: Row, arms: list[Arm], players: str) -> str:
    """The report as HTML. ``result`` is what results.json holds, ``players`` the part with the players."""
    analysis = result["analysis"]
    name = "long" if "long" in analysis else "all"
    part = analysis[name]
    clips = result["clips"]
    which = f"{part['clips']} clips" + (" of 5 s and more" if name == "long" else "")
    seconds = sum(c["seconds"] for c in clips)
    parts = [
        f"<h1>tfcodec against classical codecs</h1><p>{len(clips)} clips, {seconds:.0f} s in all"
        f" ({min(c['seconds'] for c in clips):.1f} to {max(c['seconds'] for c in clips):.1f} s), 256x256 at 25 "
        f"frames/s. Figures on this page: mean over {which}.</p>"
    ]
    if result["failures"]:
        listed = "".join(f"<li>{escape(f)}</li>" for f in result["failures"])
        parts.append(f"<p><b>{len(result['failures'])} rows are missing:</b></p><ul>{listed}</ul>")
    drawn = plots.figures(analysis, name, which)
    for key, title in (("rate_distortion_file", "Random access"), ("rate_distortion_call", "Low delay")):
        if key in drawn:
            parts.append(f"<h2>{title}</h2><figure id={key}>{plots.svg(drawn[key])}</figure>")
    if part["equal_lpips"]:
        parts.append(
            f"<h2>Bits at equal LPIPS</h2><p class=note>tfcodec at quality {part['equal_lpips'][0]['quality']}; "
            "the others by interpolation between their settings, clip by clip, at whichever picture size is cheapest. "
            "Floor: clips (&lt;) whose coarsest setting is already better, so that the ratio is an upper bound, and "
            "clips (&gt;) whose finest setting is still worse. Right of it what the other measures say there.</p>"
            + _equal_table(part["equal_lpips"])
            + (f"<figure id=equal_lpips>{plots.svg(drawn['equal_lpips'])}</figure>")
        )
    parts.append(f"<h2>Speech, and whole streams</h2>{_speech(part, result, drawn)}")
    if part["reach"]:
        parts.append(
            "<h2>Where classical codecs win</h2><p class=note>The rate at which each has the best value that tfcodec's "
            "ladder reaches at all; marked where it needs fewer bits. Beyond that rate it is the better codec.</p>"
            + _reach_table(part["reach"])
        )
    if part["bd_rate"]:
        parts.append(f"<h2>BD-rate</h2>{_bd_table(part['bd_rate'])}")
    if "bytes" in drawn:
        parts.append(f"<h2>Bytes</h2>{_ACCOUNTING}<figure id=bytes>{plots.svg(drawn['bytes'])}</figure>")
    parts.append(_curve_table(part["curves"]))
    parts.append(f"<h2>Side by side</h2>{players}")
    parts.append(f"<h2>Clip by clip</h2>{_clip_tables(result['rows'])}")
    parts.append(f"<h2>Settings</h2>{_settings(arms, result)}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>tfcodec against classical codecs</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )
