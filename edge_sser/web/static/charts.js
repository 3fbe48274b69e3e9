// Curves and heat maps on a canvas, in the colours of the style sheet.

import { dayMonth, dayName, hourMinute } from "./base.js";

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["text", "muted", "line", "panel", "low", "elevated", "high", "speech", "empty", "silent", "fill-low", "fill-elevated", "fill-high"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Fits a canvas to its place and the screen's pixels.
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

// Colour of a line by its height: that of the level which begins there.
function byLevel(context, top, bottom, thresholds, paint) {
  const gradient = context.createLinearGradient(0, bottom, 0, top);
  for (const [from, to, level] of [[0, thresholds.elevated, "low"], [thresholds.elevated, thresholds.high, "elevated"], [thresholds.high, 1, "high"]]) {
    gradient.addColorStop(from, paint[level]);
    gradient.addColorStop(to, paint[level]);
  }
  return gradient;
}

// Calls draw(points of one stretch) for each stretch without a gap.
function stretches(points, gap, value, draw) {
  let stretch = [];
  for (const point of points) {
    const broken = value(point) === null || (stretch.length && point[0] - stretch.at(-1)[0] > gap);
    if (broken && stretch.length) draw(stretch);
    if (broken) stretch = [];
    if (value(point) !== null) stretch.push(point);
  }
  if (stretch.length) draw(stretch);
}

/* Draws stress over time.
   points: [time, stress or null, share of speech, highest stress or null], in the order of time
   options: since, until, gap (s between points of one stretch), thresholds, axes (true to label them), at (time of a cursor) */
export function drawCurve(canvas, points, { since, until, gap, thresholds, axes = false, at = null }) {
  const { context, width, height } = prepare(canvas);
  const paint = colours();
  const [left, right, top, bottom] = axes ? [40, width - 8, 8, height - 24] : [0, width, 3, height - 1];
  const x = (time) => left + ((time - since) / (until - since)) * (right - left);
  const y = (value) => bottom - value * (bottom - top);

  if (axes) drawAxes(context, { left, right, top, bottom, x, y, since, until, paint });
  context.save();
  context.beginPath();
  context.rect(left, 0, right - left, height);
  context.clip();

  context.fillStyle = paint.speech;
  stretches(points, gap, (point) => point[2], (part) => {
    context.beginPath();
    context.moveTo(x(part[0][0]), bottom);
    for (const point of part) context.lineTo(x(point[0]), bottom - point[2] * (bottom - top) * 0.22);
    context.lineTo(x(part.at(-1)[0]), bottom);
    context.fill();
  });

  context.setLineDash([3, 4]);
  context.lineWidth = 1;
  for (const level of ["elevated", "high"]) {
    context.strokeStyle = paint[level];
    context.globalAlpha = 0.75;
    line(context, left, y(thresholds[level]), right, y(thresholds[level]));
  }
  context.setLineDash([]);
  context.globalAlpha = 1;

  const ink = byLevel(context, top, bottom, thresholds, paint);
  context.lineJoin = context.lineCap = "round";
  const trace = (part, value) => {
    context.beginPath();
    part.forEach((point, index) => context[index ? "lineTo" : "moveTo"](x(point[0]), y(value(point))));
  };
  const dot = (time, value) => context.fillRect(x(time) - 1.5, y(value) - 1.5, 3, 3);
  if (points.length && points[0].length > 3) {
    context.strokeStyle = ink;
    context.globalAlpha = 0.35;
    context.lineWidth = 1;
    context.fillStyle = ink;
    stretches(points, gap, (point) => point[3], (part) => {
      trace(part, (point) => point[3]);
      context.stroke();
      if (part.length === 1) dot(part[0][0], part[0][3]);
    });
    context.globalAlpha = 1;
  }
  stretches(points, gap, (point) => point[1], (part) => {
    trace(part, (point) => point[1]);
    context.strokeStyle = ink;
    context.lineWidth = 1.8;
    context.stroke();
    context.fillStyle = ink;
    if (part.length === 1) dot(part[0][0], part[0][1]);
    context.lineTo(x(part.at(-1)[0]), bottom);
    context.lineTo(x(part[0][0]), bottom);
    context.globalAlpha = 0.13;
    context.fill();
    context.globalAlpha = 1;
  });
  if (at !== null) {
    context.strokeStyle = paint.text;
    line(context, x(at), top, x(at), bottom);
  }
  context.restore();
  return { time: (pixel) => since + ((pixel - left) / (right - left)) * (until - since) };
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5);
  context.stroke();
}

function drawAxes(context, { left, right, top, bottom, x, y, since, until, paint }) {
  context.strokeStyle = paint.line;
  context.fillStyle = paint.muted;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    line(context, left, y(value), right, y(value));
    context.fillText(`${100 * value} %`, left - 6, y(value));
  }
  const times = ticks(since, until, (right - left) / 64).map(([time, text]) => [x(time), text]);
  for (const [at] of times) line(context, at, top, at, bottom);
  writeTimes(context, times, left, right, bottom + 14);
}

// Writes the labels of a time axis, and leaves out those that would touch one before.
function writeTimes(context, labels, left, right, y) {
  context.textAlign = "left";
  let end = -Infinity;
  for (const [at, text] of labels) {
    const width = context.measureText(text).width;
    const from = Math.min(right - width, Math.max(left, at - width / 2));
    if (from < end + 8) continue;
    context.fillText(text, from, y);
    end = from + width;
  }
}

function label(time, date, hours, span) {
  if (span > 10 * 86_400) return dayMonth(time);
  return hours >= 24 || (date.getHours() === 0 && date.getMinutes() === 0 && span > 90_000) ? dayName(time) : hourMinute(time);
}

// Round times in local time, at most `most` of them, each with its label.
export function ticks(since, until, most) {
  const hours = [1 / 12, 1 / 4, 1 / 2, 1, 2, 3, 6, 12, 24, 48, 96, 168].find((step) => (until - since) / 3600 / step <= most) ?? 168;
  const found = [];
  const start = new Date(1000 * since);
  start.setHours(0, 0, 0, 0);
  for (let index = 0; ; index += 1) {
    const date = new Date(start);
    date.setMinutes(Math.round(index * hours * 60));
    const time = date.getTime() / 1000;
    if (time > until) return found;
    if (time >= since) found.push([time, label(time, date, hours, until - since)]);
  }
}

const mix = (one, other, share) => `color-mix(in srgb, ${other} ${Math.round(100 * share)}%, ${one})`;

// Colour of a value in a heat map: the level's, fuller as the value rises within it.
export function heatColour(value, thresholds, paint) {
  if (value >= thresholds.high) return mix(paint["fill-high"], "#000", 0.3 * ((value - thresholds.high) / (1 - thresholds.high)));
  if (value >= thresholds.elevated) return mix(paint.panel, paint["fill-elevated"], 0.7 + 0.3 * ((value - thresholds.elevated) / (thresholds.high - thresholds.elevated)));
  return mix(paint.panel, paint["fill-low"], 0.12 + 0.6 * (value / thresholds.elevated));
}

/* Draws rows of cells.
   rows: {label, cells: value, null (no speech) or undefined (no readings), by column}
   options: columns, labels ([column, text] of the time axis), thresholds, chosen ([row, column] or null), selected (row or -1) */
export function drawHeat(canvas, rows, { columns, labels, thresholds, chosen, selected }) {
  const { context, width, height } = prepare(canvas);
  const paint = colours();
  const left = Math.min(130, Math.max(56, width * 0.16));
  const right = width - 4;
  const bottom = height - 22;
  const across = (right - left) / columns;
  const down = bottom / rows.length;
  const gap = down > 12 ? 2 : 1;
  const known = new Map();
  context.textBaseline = "middle";
  rows.forEach((row, index) => {
    context.fillStyle = index === selected ? paint.text : paint.muted;
    context.font = `${index === selected ? "600 " : ""}${Math.min(12, Math.max(9, down - 3))}px system-ui, sans-serif`;
    context.textAlign = "left";
    context.fillText(shorten(context, row.label, left - 8), 0, (index + 0.5) * down);
    for (let column = 0; column < columns; column += 1) {
      const value = row.cells[column];
      if (value === undefined) context.fillStyle = paint.empty;
      else if (value === null) context.fillStyle = paint.silent;
      else {
        const step = Math.round(100 * value) / 100;
        if (!known.has(step)) known.set(step, heatColour(step, thresholds, paint));
        context.fillStyle = known.get(step);
      }
      const from = left + column * across;
      context.fillRect(from, index * down, Math.max(1, across - (across > 5 ? 1 : 0)), down - gap);
    }
  });
  context.fillStyle = paint.muted;
  context.font = "11px system-ui, sans-serif";
  writeTimes(context, labels.map(([column, text]) => [left + column * across, text]), left, right, bottom + 13);
  if (chosen) {
    context.strokeStyle = paint.text;
    context.lineWidth = 2;
    context.strokeRect(left + chosen[1] * across - 1, chosen[0] * down - 1, Math.max(across, 4) + 1, down);
  }
  return {
    cell: (px, py) => {
      const found = [Math.floor(py / down), Math.floor((px - left) / across)];
      return found[0] >= 0 && found[0] < rows.length && found[1] >= 0 && found[1] < columns ? found : null;
    },
  };
}

function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let cut = text;
  while (cut && context.measureText(`${cut}…`).width > width) cut = cut.slice(0, -1);
  return `${cut}…`;
}
