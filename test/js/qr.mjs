// Reads lines from standard input, draws each as a QR code as our pages do, and writes what jsQR, which is not ours, reads in it.
import jsQR from 'jsqr';
import { modules } from '../../signin/pages/files/qr.js';

let input = '';
for await (const chunk of process.stdin) input += chunk;
const found = input.split('\n').map((text) => {
  const dark = modules(text);
  if (dark === null) return null;
  const quiet = 4, scale = 4, side = (dark.length + 2 * quiet) * scale;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  dark.forEach((row, y) => row.forEach((on, x) => {
    for (let a = 0; on && a < scale; a++) {
      for (let b = 0; b < scale; b++) pixels.fill(0, (((y + quiet) * scale + a) * side + (x + quiet) * scale + b) * 4, (((y + quiet) * scale + a) * side + (x + quiet) * scale + b) * 4 + 3);
    }
  }));
  return { size: dark.length, text: jsQR(pixels, side, side)?.data ?? '' };
});
process.stdout.write(JSON.stringify(found));
