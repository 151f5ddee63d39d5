// The objects of one image: what each is, what is undone and done again.
import {Worker1} from "./net.js";

const FIELDS = ["clicks", "category", "rle", "quality", "threshold", "by", "status", "seconds"];
const START = {
  clicks: [], rle: null, quality: null, threshold: null, by: "", status: "open", seconds: 0,
};
const MANY = 4000; // numbers of an outline
const worker = new Worker1("/static/worker.js");

// Hues that differ, also for those who see few colours: light and dark alternate.
const COLOURS = [
  [255, 176, 0], [100, 143, 255], [254, 97, 0], [120, 220, 150], [220, 38, 127],
  [90, 200, 250], [240, 228, 66], [170, 130, 255], [255, 150, 190], [160, 200, 60],
];

export const colourOf = (place) => COLOURS[Math.max(0, place) % COLOURS.length];
export const cssOf = (colour) => `rgb(${colour.join(", ")})`;

export const fieldsOf = (object) =>
  structuredClone(Object.fromEntries(FIELDS.map((name) => [name, object[name]])));

// Rings as a path; of n > 1 corners in a row one is kept.
function pathOf(edges, n) {
  const path = new Path2D();
  for (let i = 0; i < edges.length;) {
    const end = i + 1 + 2 * edges[i++];
    path.moveTo(edges[i], edges[i + 1]);
    for (i += 2 * n; i < end; i += 2 * n) path.lineTo(edges[i], edges[i + 1]);
    path.closePath();
    i = end;
  }
  return path;
}

export class Objects {
  // send(event) delivers; onChange(object) is called after every change.
  constructor(picture, categories, send, onChange) {
    Object.assign(this, {picture, categories, send, onChange});
    this.size = [picture.info.width, picture.info.height];
    this.list = picture.info.objects.map((known) => ({...START, ...known}));
    for (const object of this.list) {
      object.clicks ||= [];
      object.isFresh = false;
    }
    this.undone = [];
    this.done = [];
    for (const object of this.list) if (object.rle) this.decode(object);
  }

  // Those that are there, oldest first.
  get present() {
    return this.list.filter((object) => object.status !== "gone");
  }

  at(key) {
    return this.list.find((object) => object.key === key);
  }

  create(category) {
    const key = `o${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
    const object = {...START, clicks: [], key, category, status: "gone", isFresh: true};
    this.list.push(object);
    return object;
  }

  // Takes over new values, tells the server, and notes how to undo it.
  change(object, what, values, {isUndoable = true, isDrawn = false} = {}) {
    const before = fieldsOf(object);
    Object.assign(object, structuredClone(values));
    if (isUndoable) {
      this.done.push({key: object.key, before, after: fieldsOf(object), what});
      this.undone = [];
    }
    this.tell(object, what, values);
    if (!isDrawn && ("rle" in values || "category" in values)) this.decode(object);
    this.onChange(object);
  }

  tell(object, what, values) {
    const set = object.wasTold || object.id ? values : fieldsOf(object);
    object.wasTold = true;
    this.send({do: what, image: this.picture.info.id, object: object.key, set});
  }

  undo() {
    return this.step("undo", this.done, this.undone, "before");
  }

  redo() {
    return this.step("redo", this.undone, this.done, "after");
  }

  step(what, from, to, side) {
    const entry = from.pop();
    if (!entry) return null;
    to.push(entry);
    const object = this.at(entry.key);
    object.epoch = (object.epoch || 0) + 1; // what is still computed comes too late
    Object.assign(object, structuredClone(entry[side]));
    this.tell(object, what, fieldsOf(object));
    this.decode(object);
    this.onChange(object);
    return object;
  }

  colourOf(object) {
    return colourOf(this.categories.findIndex(({id}) => id === object.category));
  }

  decode(object) {
    object.decoding = this.decoded(object);
    return object.decoding;
  }

  async decoded(object) {
    const {rle} = object, colour = this.colourOf(object);
    if (!rle) {
      object.drawn = null;
      return;
    }
    if (object.drawn?.rle === rle && object.drawn.colour === colour) return;
    const made = await worker.ask({op: "decode", rle, size: this.size, colour});
    if (object.rle === rle) this.take(object, made, colour);
  }

  take(object, {mask, edges, bitmap, area}, colour) {
    const step = Math.ceil(edges.length / MANY); // large ones are far away, mostly
    object.drawn = {
      mask, bitmap, step, rle: object.rle, colour, area, corners: edges.length / 2,
      edges: pathOf(edges, 1), coarse: step > 1 ? pathOf(edges, step) : null,
    };
    object.shownAt ||= performance.now();
    this.onChange(object);
  }

  // Changes the mask by hand; strokes of one object wait for each other.
  edit(object, what, question) {
    const epoch = object.epoch || 0;
    object.work = (object.work || Promise.resolve()).then(async () => {
      await object.decoding; // a stroke goes over what is there, all of it
      const colour = this.colourOf(object);
      const empty = {x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0)};
      const mask = object.drawn?.mask || empty;
      const made = await worker.ask({...question, mask, size: this.size, colour});
      if ((object.epoch || 0) !== epoch) return;
      const rle = made.area ? made.rle : null;
      object.drawn = null;
      const status = rle || object.clicks.length === 4 ? "done" : "open";
      this.change(object, what, {rle, by: "edited", status}, {isDrawn: true});
      if (rle) this.take(object, made, colour);
    });
    return object.work;
  }

  isIn(object, x, y) {
    const mask = object.drawn?.mask;
    if (!mask) return false;
    const column = Math.round(x) - mask.x, row = Math.round(y) - mask.y;
    return column >= 0 && row >= 0 && column < mask.w && row < mask.h &&
      mask.bits[row * mask.w + column] === 1;
  }
}
