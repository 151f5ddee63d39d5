// Images as bitmaps: this one, the last one, and the next one before it is asked for.
import {get} from "./net.js";

const KEPT = 4, LARGE = 4e6, SMALL_SIDE = 2048;

async function loaded(place) {
  const info = await get(`images/${place}`);
  if (info.fault) return {info};
  const response = await fetch(`/api/v1/images/${place}/pixels`);
  if (!response.ok) return {info: {...info, fault: (await response.json()).error}};
  const blob = await response.blob();
  // Colours and orientation are those of the file: the server has seen to that.
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none"});
  if (bitmap.width !== info.width || bitmap.height !== info.height) {
    return {info: {...info, fault: "The file was changed while the server runs."}};
  }
  let small = null;
  if (bitmap.width * bitmap.height > LARGE) {
    const scale = SMALL_SIDE / Math.max(bitmap.width, bitmap.height);
    small = await createImageBitmap(bitmap, {
      resizeWidth: Math.round(bitmap.width * scale),
      resizeHeight: Math.round(bitmap.height * scale),
      resizeQuality: "medium",
    });
  }
  return {info, bitmap, small};
}

export class Pictures {
  constructor(count) {
    this.count = count;
    this.kept = new Map();
  }

  // The picture with what is known now of its objects.
  async open(place) {
    const isKept = this.kept.has(place);
    const picture = await this.at(place);
    if (!isKept) return picture;
    return {...picture, info: {...picture.info, ...(await this.fresh(place, picture))}};
  }

  async fresh(place, picture) {
    const {objects} = await get(`images/${place}`);
    return picture.info.fault ? {} : {objects};
  }

  at(place) {
    if (!this.kept.has(place)) {
      const loading = loaded(place);
      this.kept.set(place, loading);
      loading.catch(() => this.kept.delete(place));
      for (const other of [...this.kept.keys()].slice(0, -KEPT)) this.kept.delete(other);
    }
    return this.kept.get(place);
  }

  ahead(place) {
    if (place < this.count) this.at(place).catch(() => {});
  }
}
