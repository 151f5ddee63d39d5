// Masks as the pixels of their bounding box, and as COCO's compressed run lengths.
// A mask is {x, y, w, h, bits}: bits[row * w + column] is 1 inside.

export function runsOf(counts) {
  const runs = [];
  for (let p = 0; p < counts.length;) {
    let value = 0, digit = 0, code;
    do {
      code = counts.charCodeAt(p++) - 48;
      value |= (code & 31) << (5 * digit++);
    } while (code & 32);
    if (code & 16) value |= -1 << (5 * digit);
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

export function countsOf(runs) {
  let text = "";
  for (let i = 0; i < runs.length; i++) {
    let value = i > 2 ? runs[i] - runs[i - 2] : runs[i];
    for (let more = true; more;) {
      let code = value & 31;
      value >>= 5;
      more = code & 16 ? value !== -1 : value !== 0;
      if (more) code |= 32;
      text += String.fromCharCode(code + 48);
    }
  }
  return text;
}

export function maskOf(rle) {
  const height = rle.size[0], runs = runsOf(rle.counts);
  let x0 = Infinity, x1 = -1, y0 = Infinity, y1 = -1, at = 0;
  for (let i = 0; i < runs.length; at += runs[i++]) {
    if (i % 2 === 0 || runs[i] === 0) continue;
    const last = at + runs[i] - 1;
    const c0 = Math.floor(at / height), c1 = Math.floor(last / height);
    x0 = Math.min(x0, c0);
    x1 = Math.max(x1, c1);
    y0 = Math.min(y0, c0 === c1 ? at % height : 0);
    y1 = Math.max(y1, c0 === c1 ? last % height : height - 1);
  }
  if (x1 < 0) return {x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0)};
  const w = x1 - x0 + 1, h = y1 - y0 + 1, bits = new Uint8Array(w * h);
  at = 0;
  for (let i = 0; i < runs.length; at += runs[i++]) {
    if (i % 2 === 0) continue;
    let column = Math.floor(at / height), row = at % height;
    for (let left = runs[i]; left > 0; row = 0, column++) {
      const count = Math.min(left, height - row);
      let place = (row - y0) * w + column - x0;
      for (let k = 0; k < count; k++, place += w) bits[place] = 1;
      left -= count;
    }
  }
  return {x: x0, y: y0, w, h, bits};
}

export function rleOf(mask, width, height) {
  const runs = [];
  let end = 0;
  for (let column = 0; column < mask.w; column++) {
    for (let row = 0; row < mask.h; row++) {
      if (!mask.bits[row * mask.w + column]) continue;
      const first = row;
      while (row < mask.h && mask.bits[row * mask.w + column]) row++;
      const start = (mask.x + column) * height + mask.y + first;
      if (start === end && runs.length) runs[runs.length - 1] += row - first;
      else runs.push(start - end, row - first);
      end = start + row - first;
    }
  }
  if (end < width * height) runs.push(width * height - end);
  return {size: [height, width], counts: countsOf(runs)};
}

export function areaOf(mask) {
  let area = 0;
  for (const bit of mask.bits) area += bit;
  return area;
}

export function isInside(mask, x, y) {
  const column = Math.round(x) - mask.x, row = Math.round(y) - mask.y;
  return column >= 0 && row >= 0 && column < mask.w && row < mask.h &&
    mask.bits[row * mask.w + column] === 1;
}

// The outlines as closed rings along the pixels' edges, one behind the other:
// [number of corners, x0, y0, x1, y1, ..., number of corners, ...].
export function ringsOf({x, y, w, h, bits}) {
  const value = (column, row) =>
    column >= 0 && row >= 0 && column < w && row < h ? bits[row * w + column] : 0;
  const across = new Map(), stride = w + 2; // corner -> the corners along its rows
  const join = (from, to) => {
    for (const [one, other] of [[from, to], [to, from]]) {
      const known = across.get(one);
      if (known) known.push(other);
      else across.set(one, [other]);
    }
  };
  for (let row = 0; row <= h; row++) {
    for (let column = 0; column < w; column++) {
      if (value(column, row - 1) === value(column, row)) continue;
      const first = column, side = value(column, row);
      const goesOn = () => column < w && value(column, row) === side && value(column, row - 1) !== side;
      while (goesOn()) column++;
      join(row * stride + first, row * stride + column--);
    }
  }
  const down = new Map();
  for (let column = 0; column <= w; column++) {
    for (let row = 0; row < h; row++) {
      if (value(column - 1, row) === value(column, row)) continue;
      const first = row, side = value(column, row);
      while (row < h && value(column, row) === side && value(column - 1, row) !== side) row++;
      const [from, to] = [first * stride + column, row * stride + column];
      row--;
      for (const [one, other] of [[from, to], [to, from]]) {
        if (down.has(one)) down.get(one).push(other);
        else down.set(one, [other]);
      }
    }
  }
  const take = (links, one) => {
    const other = links.get(one)?.pop();
    if (other === undefined) return undefined;
    const back = links.get(other);
    back.splice(back.indexOf(one), 1);
    return other;
  };
  const rings = [];
  for (const start of across.keys()) {
    for (;;) {
      const corners = [];
      let corner = start, next = take(across, corner);
      if (next === undefined) break;
      for (let isDown = true; next !== undefined; isDown = !isDown) {
        corners.push(x + (corner % stride), y + Math.floor(corner / stride));
        corner = next;
        next = take(isDown ? down : across, corner);
      }
      rings.push(corners.length / 2, ...corners);
    }
  }
  return Int32Array.from(rings);
}

function grownTo(mask, x0, y0, x1, y1) {
  if (mask.w) {
    x0 = Math.min(x0, mask.x);
    y0 = Math.min(y0, mask.y);
    x1 = Math.max(x1, mask.x + mask.w);
    y1 = Math.max(y1, mask.y + mask.h);
  }
  const w = x1 - x0, h = y1 - y0, bits = new Uint8Array(w * h);
  for (let row = 0; row < mask.h; row++) {
    const from = mask.bits.subarray(row * mask.w, (row + 1) * mask.w);
    bits.set(from, (row + mask.y - y0) * w + mask.x - x0);
  }
  return {x: x0, y: y0, w, h, bits};
}

// A round brush along points [[x, y], ...], in pixels of the image.
export function painted(mask, points, radius, value, width, height) {
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const x0 = Math.max(0, Math.floor(Math.min(...xs) - radius));
  const y0 = Math.max(0, Math.floor(Math.min(...ys) - radius));
  const x1 = Math.min(width, Math.ceil(Math.max(...xs) + radius) + 1);
  const y1 = Math.min(height, Math.ceil(Math.max(...ys) + radius) + 1);
  if (x1 <= x0 || y1 <= y0) return mask;
  const made = grownTo(mask, x0, y0, x1, y1);
  for (let i = 0; i < points.length; i++) {
    const [ax, ay] = points[Math.max(0, i - 1)], [bx, by] = points[i];
    const dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    const top = Math.max(y0, Math.floor(Math.min(ay, by) - radius));
    const bottom = Math.min(y1, Math.ceil(Math.max(ay, by) + radius) + 1);
    const left = Math.max(x0, Math.floor(Math.min(ax, bx) - radius));
    const right = Math.min(x1, Math.ceil(Math.max(ax, bx) + radius) + 1);
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        let t = length ? ((x - ax) * dx + (y - ay) * dy) / length : 0;
        t = Math.max(0, Math.min(1, t));
        if (Math.hypot(x - ax - t * dx, y - ay - t * dy) <= radius) {
          made.bits[(y - made.y) * made.w + x - made.x] = value;
        }
      }
    }
  }
  return trimmed(made);
}

// Marks what is connected, 8 ways, with a place that holds a value.
function flooded({w, h, bits}, starts, value) {
  const seen = new Uint8Array(w * h), stack = [];
  const look = (place) => {
    if (bits[place] !== value || seen[place]) return;
    seen[place] = 1;
    stack.push(place);
  };
  starts.forEach(look);
  while (stack.length) {
    const place = stack.pop(), column = place % w, row = (place - column) / w;
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const isAcross = value === 0 && dx && dy; // the outside does not slip through
        const x = column + dx, y = row + dy;
        if (!isAcross && x >= 0 && y >= 0 && x < w && y < h) look(y * w + x);
      }
    }
  }
  return seen;
}

// Takes away the part at a pixel, or everything else.
export function withoutPart(mask, x, y, keepsIt) {
  const start = (Math.round(y) - mask.y) * mask.w + Math.round(x) - mask.x;
  const part = flooded(mask, [start], 1);
  const bits = mask.bits.map((bit, i) => (keepsIt ? part[i] : bit & ~part[i] & 1));
  return trimmed({...mask, bits});
}

export function filled(mask) {
  const framed = grownTo(mask, mask.x - 1, mask.y - 1, mask.x + mask.w + 1,
    mask.y + mask.h + 1);
  const outside = flooded(framed, [0], 0);
  return trimmed({...framed, bits: framed.bits.map((_, i) => 1 - outside[i])});
}

export function united(one, other) {
  const made = grownTo(one, other.x, other.y, other.x + other.w, other.y + other.h);
  for (let row = 0; row < other.h; row++) {
    for (let column = 0; column < other.w; column++) {
      if (other.bits[row * other.w + column]) {
        made.bits[(row + other.y - made.y) * made.w + column + other.x - made.x] = 1;
      }
    }
  }
  return made;
}

function trimmed({x, y, w, h, bits}) {
  let x0 = w, x1 = -1, y0 = h, y1 = -1;
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      if (!bits[row * w + column]) continue;
      x0 = Math.min(x0, column);
      x1 = Math.max(x1, column);
      y0 = Math.min(y0, row);
      y1 = row;
    }
  }
  if (x1 < 0) return {x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0)};
  const made = {x: x + x0, y: y + y0, w: x1 - x0 + 1, h: y1 - y0 + 1};
  made.bits = new Uint8Array(made.w * made.h);
  for (let row = 0; row < made.h; row++) {
    const from = (row + y0) * w + x0;
    made.bits.set(bits.subarray(from, from + made.w), row * made.w);
  }
  return made;
}
