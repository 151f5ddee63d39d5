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
  const edges = masks.edgesOf(made);
  const bitmap = made.w ? await tinted(made, colour) : null;
  const area = masks.areaOf(made);
  self.postMessage({id, mask: made, rle, edges, bitmap, area}, bitmap ? [bitmap] : []);
};

function tinted({w, h, bits}, [red, green, blue]) {
  const pixels = new ImageData(w, h);
  const whole = new Uint32Array(pixels.data.buffer);
  const value = (255 << 24) | (blue << 16) | (green << 8) | red; // little-endian
  for (let i = 0; i < bits.length; i++) if (bits[i]) whole[i] = value;
  return createImageBitmap(pixels);
}
