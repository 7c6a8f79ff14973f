// Landmarks of a frame out of its motion: section 22.5 of the specification, in floating point.

const POINTS = 70;
const MOUTH_FIRST = 4; // numbers before are the head's
const UNIT = 1024;
const SHORTEST = 4; // pixels between the eyes

function mean(points, first, end) {
  let x = 0;
  let y = 0;
  for (let i = first; i < end; i++) {
    x += points[2 * i];
    y += points[2 * i + 1];
  }
  return [x / (end - first), y / (end - first)];
}

/**
 * Landmarks [140] of a frame in pixels: `synthesis` [12 * 140] moves `reference` [140], the keyframe's, by `numbers` [16].
 */
export function synthesise(synthesis, reference, numbers) {
  const centre = mean(reference, 0, POINTS);
  const left = mean(reference, 36, 42);
  const right = mean(reference, 42, 48);
  const across = [right[0] - left[0], right[1] - left[1]];
  const length = Math.hypot(...across);
  const [x, y] = length > 1e-6 ? [across[0] / length, across[1] / length] : [1, 0];
  const unit = Math.max(length, SHORTEST);
  const [scale, turn, aside, down] = numbers;
  const c = 1 + scale / UNIT;
  const n = turn / UNIT;
  const out = new Float32Array(2 * POINTS);
  for (let i = 0; i < POINTS; i++) {
    let dx = 0;
    let dy = 0;
    for (let j = 0; j < 12; j++) {
      const z = numbers[MOUTH_FIRST + j] / UNIT;
      dx += z * synthesis[j * 140 + 2 * i];
      dy += z * synthesis[j * 140 + 2 * i + 1];
    }
    const qx = reference[2 * i] - centre[0] + unit * (x * dx - y * dy);
    const qy = reference[2 * i + 1] - centre[1] + unit * (y * dx + x * dy);
    out[2 * i] = c * qx - n * qy + centre[0] + (unit * aside) / UNIT;
    out[2 * i + 1] = n * qx + c * qy + centre[1] + (unit * down) / UNIT;
  }
  return out;
}
