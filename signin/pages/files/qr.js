// A QR code (ISO/IEC 18004, model 2) of a short text: bytes, level M, versions 1 to 15. It is drawn here, so that the key of an
// authenticator app is in no request.

// By version: bytes of error correction in a block, and blocks.
const correction = [0, 10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24];
const blocks = [0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10];

// rawBytes is how many bytes of data and error correction a version has room for.
function rawBytes(v) {
  let bits = (16 * v + 128) * v + 64;
  if (v >= 2) {
    const n = Math.floor(v / 7) + 2;
    bits -= (25 * n - 10) * n - 55;
    if (v >= 7) bits -= 36;
  }
  return Math.floor(bits / 8);
}

const dataBytes = (v) => rawBytes(v) - correction[v] * blocks[v];

// times multiplies in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1.
function times(a, b) {
  let p = 0;
  for (let i = 7; i >= 0; i--) p = (p << 1) ^ ((p >>> 7) * 0x11d) ^ (((b >>> i) & 1) * a);
  return p;
}

function remainder(data, degree) {
  const divisor = new Uint8Array(degree);
  divisor[degree - 1] = 1;
  for (let i = 0, root = 1; i < degree; i++, root = times(root, 2)) {
    for (let j = 0; j < degree; j++) divisor[j] = times(divisor[j], root) ^ (divisor[j + 1] ?? 0);
  }
  const rest = new Array(degree).fill(0);
  for (const b of data) {
    const factor = b ^ rest.shift();
    rest.push(0);
    divisor.forEach((d, i) => { rest[i] ^= times(d, factor); });
  }
  return rest;
}

function codewords(text, v) {
  const bits = [];
  const put = (value, n) => { for (let i = n - 1; i >= 0; i--) bits.push((value >>> i) & 1); };
  const all = new TextEncoder().encode(text);
  put(4, 4);
  put(all.length, v < 10 ? 8 : 16);
  all.forEach((b) => put(b, 8));
  const room = dataBytes(v) * 8;
  put(0, Math.min(4, room - bits.length));
  put(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < room; pad ^= 0xec ^ 0x11) put(pad, 8);
  const data = [];
  for (let i = 0; i < bits.length; i += 8) data.push(parseInt(bits.slice(i, i + 8).join(''), 2));

  // The blocks, the short ones first, are interleaved: one byte of each in turn.
  const n = blocks[v];
  const long = rawBytes(v) % n;
  const size = Math.floor(rawBytes(v) / n) - correction[v];
  const parts = [];
  for (let i = 0, at = 0; i < n; i++) {
    const end = at + size + (i < n - long ? 0 : 1);
    parts.push(data.slice(at, end));
    at = end;
  }
  const out = [];
  for (let i = 0; i <= size; i++) parts.forEach((p) => { if (i < p.length) out.push(p[i]); });
  const checks = parts.map((p) => remainder(p, correction[v]));
  for (let i = 0; i < correction[v]; i++) checks.forEach((c) => out.push(c[i]));
  return out;
}

function alignment(v) {
  if (v === 1) return [];
  const n = Math.floor(v / 7) + 2;
  const step = Math.ceil((v * 4 + 4) / (n * 2 - 2)) * 2;
  const at = [6];
  for (let p = v * 4 + 10; at.length < n; p -= step) at.splice(1, 0, p);
  return at;
}

// frame is the part that is the same for all texts: dark is what it shows, fixed says where it is.
function frame(v) {
  const size = v * 4 + 17;
  const dark = Array.from({ length: size }, () => new Array(size).fill(false));
  const fixed = dark.map((row) => row.slice());
  const set = (x, y, on) => { if (x >= 0 && y >= 0 && x < size && y < size) { dark[y][x] = on; fixed[y][x] = true; } };
  const square = (cx, cy, r, on) => {
    for (let y = -r; y <= r; y++) for (let x = -r; x <= r; x++) set(cx + x, cy + y, on(Math.max(Math.abs(x), Math.abs(y))));
  };
  for (let i = 0; i < size; i++) { set(6, i, i % 2 === 0); set(i, 6, i % 2 === 0); }
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, (d) => d !== 2 && d !== 4);
  const a = alignment(v);
  const last = a.length - 1;
  a.forEach((x, i) => a.forEach((y, j) => {
    if (!((i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0))) square(x, y, 2, (d) => d !== 1);
  }));
  format(set, size, 0);
  if (v >= 7) {
    let rest = v;
    for (let i = 0; i < 12; i++) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    const bits = (v << 12) | rest;
    for (let i = 0; i < 18; i++) {
      const on = ((bits >>> i) & 1) === 1;
      set(size - 11 + (i % 3), Math.floor(i / 3), on);
      set(Math.floor(i / 3), size - 11 + (i % 3), on);
    }
  }
  return { size, dark, fixed, set };
}

// format writes level M and the mask, twice.
function format(set, size, mask) {
  let rest = mask; // level M is 00
  for (let i = 0; i < 10; i++) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
  const bits = ((mask << 10) | rest) ^ 0x5412;
  const on = (i) => ((bits >>> i) & 1) === 1;
  for (let i = 0; i <= 5; i++) set(8, i, on(i));
  set(8, 7, on(6));
  set(8, 8, on(7));
  set(7, 8, on(8));
  for (let i = 9; i < 15; i++) set(14 - i, 8, on(i));
  for (let i = 0; i < 8; i++) set(size - 1 - i, 8, on(i));
  for (let i = 8; i < 15; i++) set(8, size - 15 + i, on(i));
  set(8, size - 8, true);
}

function lay(f, bytes) {
  let i = 0;
  for (let right = f.size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let vert = 0; vert < f.size; vert++) {
      for (const x of [right, right - 1]) {
        const y = ((right + 1) & 2) === 0 ? f.size - 1 - vert : vert;
        if (f.fixed[y][x] || i >= bytes.length * 8) continue;
        f.dark[y][x] = ((bytes[i >>> 3] >>> (7 - (i & 7))) & 1) === 1;
        i++;
      }
    }
  }
}

const masks = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3, (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3), (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

// penalty is how hard a code is to read.
function penalty(dark) {
  const line = (row) => row.map((d) => (d ? '1' : '0')).join('');
  const rows = dark.map(line);
  const columns = dark.map((_, x) => line(dark.map((row) => row[x])));
  let sum = 0;
  for (const l of [...rows, ...columns]) {
    for (const [run] of l.matchAll(/(.)\1{4,}/g)) sum += run.length - 2;
    sum += 40 * [...l.matchAll(/(?=10111010000|00001011101)/g)].length;
  }
  for (let y = 1; y < dark.length; y++) {
    for (let x = 1; x < dark.length; x++) {
      if (dark[y][x] === dark[y - 1][x] && dark[y][x] === dark[y][x - 1] && dark[y][x] === dark[y - 1][x - 1]) sum += 3;
    }
  }
  const share = rows.join('').replaceAll('0', '').length / (dark.length * dark.length);
  return sum + 10 * Math.floor(Math.abs(share - 0.5) * 20);
}

// modules are the squares of a text's code, true for dark, by rows; null if the text is too long.
export function modules(text) {
  const length = new TextEncoder().encode(text).length;
  const v = correction.findIndex((_, i) => i > 0 && dataBytes(i) >= length + (i < 10 ? 2 : 3));
  if (v < 0) return null;
  const bytes = codewords(text, v);
  let best = null;
  masks.forEach((mask, n) => {
    const f = frame(v);
    lay(f, bytes);
    for (let y = 0; y < f.size; y++) for (let x = 0; x < f.size; x++) if (!f.fixed[y][x] && mask(x, y) === 0) f.dark[y][x] = !f.dark[y][x];
    format(f.set, f.size, n);
    const p = penalty(f.dark);
    if (best === null || p < best.p) best = { p, dark: f.dark };
  });
  return best.dark;
}

// drawn is the code as SVG with its quiet zone, or null.
export function drawn(text) {
  const dark = modules(text);
  if (dark === null) return null;
  const make = (tag, attributes) => {
    const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    return e;
  };
  const side = dark.length + 8;
  const svg = make('svg', { viewBox: `0 0 ${side} ${side}`, 'shape-rendering': 'crispEdges', 'aria-hidden': 'true' });
  let path = '';
  dark.forEach((row, y) => row.forEach((on, x) => { if (on) path += `M${x + 4} ${y + 4}h1v1h-1z`; }));
  svg.append(make('rect', { width: side, height: side, fill: '#fff' }), make('path', { d: path, fill: '#000' }));
  return svg;
}
