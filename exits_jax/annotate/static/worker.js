// Work on masks beside the page, which never waits for it.
import * as masks from "./masks.js";

self.onmessage = async ({data: {id, op, mask, size, colour, ...given}}) => {
  const [width, height] = size;
  let made = mask;
  if (op === "decode") made = masks.maskOf(given.rle);
  if (op === "paint") {
    const {points, radius, value} = given;
    made = masks.painted(mask, points, radius, value, width, height);
  }
  if (op === "part") made = masks.withoutPart(mask, given.x, given.y, given.keepsIt);
  if (op === "fill") made = masks.filled(mask);
  if (op === "unite") made = masks.united(mask, masks.maskOf(given.rle));
  const rle = op === "decode" ? given.rle : masks.rleOf(made, width, height);
  const edges = masks.ringsOf(made);
  const bitmap = made.w ? await tinted(made, colour) : null;
  const area = masks.areaOf(made);
  self.postMessage({id, mask: made, rle, edges, bitmap, area}, bitmap ? [bitmap] : []);
};

const MAX_SIDE = 1024; // of the tint; the outline is exact at every size

function tinted({w, h, bits}, [red, green, blue]) {
  const step = Math.max(1, Math.ceil(Math.max(w, h) / MAX_SIDE));
  const width = Math.ceil(w / step), height = Math.ceil(h / step);
  const pixels = new ImageData(width, height);
  const whole = new Uint32Array(pixels.data.buffer);
  const value = (255 << 24) | (blue << 16) | (green << 8) | red; // little-endian
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (bits[row * step * w + column * step]) whole[row * width + column] = value;
    }
  }
  return createImageBitmap(pixels);
}
