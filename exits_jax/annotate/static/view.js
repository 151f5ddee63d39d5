// The two canvases: the picture with its masks below, clicks and pointer above.
// Clicks count from (0, 0), the centre of the first pixel; edges of pixels are at ±0.5.

const MAX_SCALE = 64, HANDLE = 7, MAX_CORNERS = 4000, DARK = "rgba(10, 12, 16, 0.85)", LIGHT = "#fff";

export class View {
  constructor(base, overlay) {
    Object.assign(this, {base, overlay, scale: 1, left: 0, top: 0});
    this.picture = null;
    this.shown = []; // [{edges, bitmap, mask, colour, isSelected, label}]
    this.clicks = []; // [{x, y, isHit, isLast}] of the selected object
    this.areMasksHidden = false;
    this.hasLoupe = false;
    this.pointer = null; // in CSS px of the canvas
    this.stroke = null; // {points, radius, value}
    this.brush = null; // {radius}
    this.hasLines = true;
    this.isDirty = {base: true, overlay: true};
    new ResizeObserver(() => this.resize()).observe(base.parentElement);
  }

  resize() {
    const {clientWidth, clientHeight} = this.base.parentElement;
    const ratio = window.devicePixelRatio || 1;
    const wasFit = this.isFit;
    for (const canvas of [this.base, this.overlay]) {
      canvas.width = Math.round(clientWidth * ratio);
      canvas.height = Math.round(clientHeight * ratio);
    }
    Object.assign(this, {width: clientWidth, height: clientHeight, ratio});
    if (wasFit || !this.wasSized) this.fit();
    this.wasSized = true;
    this.draw();
  }

  show(picture) {
    this.picture = picture;
    this.fit();
  }

  fit() {
    if (!this.picture || !this.width) return;
    const {width, height} = this.picture.bitmap;
    this.frame(0, 0, width, height, 1.04);
    this.isFit = true;
  }

  // Shows a box of the image, with some of what is around it.
  frame(x, y, w, h, margin) {
    const scale = Math.min(this.width / (w * margin), this.height / (h * margin));
    this.scale = Math.min(Math.max(scale, 1e-3), MAX_SCALE);
    this.left = this.width / 2 - (x + w / 2) * this.scale;
    this.top = this.height / 2 - (y + h / 2) * this.scale;
    this.isFit = false;
    this.draw();
  }

  zoom(factor, at) {
    if (!this.picture) return;
    const {width, height} = this.picture.bitmap;
    const least = Math.min(this.width / width, this.height / height) / 4;
    const scale = Math.min(Math.max(this.scale * factor, least), MAX_SCALE);
    const [x, y] = at || [this.width / 2, this.height / 2];
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.isFit = false;
    this.draw();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.isFit = false;
    this.draw();
  }

  // From CSS px of the canvas to the image, as clicks count; kept on its pixels.
  toImage([px, py]) {
    const {width, height} = this.picture.bitmap;
    const x = (px - this.left) / this.scale - 0.5, y = (py - this.top) / this.scale - 0.5;
    const kept = (value, last) =>
      Math.round(Math.min(Math.max(value, 0), last) * 100) / 100;
    return [kept(x, width - 1), kept(y, height - 1)];
  }

  toScreen([x, y]) {
    return [(x + 0.5) * this.scale + this.left, (y + 0.5) * this.scale + this.top];
  }

  isOnImage([px, py]) {
    if (!this.picture) return false;
    const {width, height} = this.picture.bitmap;
    const x = (px - this.left) / this.scale, y = (py - this.top) / this.scale;
    const slack = 8 / this.scale; // an object may end at the border
    return x >= -slack && y >= -slack && x <= width + slack && y <= height + slack;
  }

  // Which of the clicks is under the pointer; -1: none.
  clickAt([px, py]) {
    return this.clicks.findIndex(({x, y}) => {
      const [sx, sy] = this.toScreen([x, y]);
      return Math.hypot(sx - px, sy - py) <= HANDLE + 3;
    });
  }

  draw(what = "all") {
    if (what !== "overlay") this.isDirty.base = true;
    this.isDirty.overlay = true;
    this.frameRequest ||= requestAnimationFrame(() => {
      this.frameRequest = 0;
      if (this.isDirty.base) this.drawBase();
      this.drawOverlay();
      this.isDirty = {base: false, overlay: false};
    });
  }

  placed(context, ratio = this.ratio) {
    const scale = this.scale * ratio;
    context.setTransform(scale, 0, 0, scale, this.left * ratio, this.top * ratio);
  }

  drawBase() {
    const context = this.base.getContext("2d", {alpha: false});
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (!this.picture) {
      context.fillStyle = getComputedStyle(this.base).backgroundColor;
      context.fillRect(0, 0, this.base.width, this.base.height);
      return;
    }
    context.drawImage(this.layered(), 0, 0);
    if (this.areMasksHidden) return;
    this.placed(context);
    for (const each of this.shown) {
      if (!each.isSelected) continue;
      this.drawTint(context, each);
      this.drawOutline(context, each);
    }
  }

  // The image with the masks that are not selected; new ones are added to what is there.
  // Outlines take the longest: of many, some are left to the next frame.
  layered() {
    const others = this.areMasksHidden ? [] : this.shown.filter((each) => !each.isSelected);
    const {scale, left, top, ratio} = this;
    const ground = getComputedStyle(this.base).backgroundColor;
    const {width, height} = this.base;
    const frame = JSON.stringify([scale, left, top, ratio, ground, width, height]);
    this.layer ||= document.createElement("canvas");
    const {layer} = this, context = layer.getContext("2d", {alpha: false});
    const known = this.known || [];
    const isMore = this.known && this.frameOfLayer === frame &&
      this.pictureOfLayer === this.picture && known.length <= others.length &&
      known.every((edges, i) => edges === others[i].edges);
    if (!isMore) {
      Object.assign(layer, {width, height});
      context.fillStyle = ground;
      context.fillRect(0, 0, width, height);
      this.placed(context);
      const {bitmap, small} = this.picture;
      context.imageSmoothingEnabled = scale * ratio < 2;
      const isSmall = small && scale * ratio * bitmap.width <= small.width;
      context.drawImage(isSmall ? small : bitmap, 0, 0, bitmap.width, bitmap.height);
      this.outlined = 0;
    }
    this.placed(context);
    for (const each of others.slice(isMore ? known.length : 0)) this.drawTint(context, each);
    for (let left = MAX_CORNERS; left > 0 && this.outlined < others.length;) {
      left -= this.drawOutline(context, others[this.outlined++]);
    }
    if (this.outlined < others.length) requestAnimationFrame(() => this.draw());
    this.known = others.map(({edges}) => edges);
    this.frameOfLayer = frame;
    this.pictureOfLayer = this.picture;
    return layer;
  }

  drawTint(context, {bitmap, mask, isSelected}) {
    if (!bitmap) return;
    context.globalAlpha = isSelected ? 0.42 : 0.28;
    context.imageSmoothingEnabled = this.scale < 1;
    context.drawImage(bitmap, mask.x, mask.y, mask.w, mask.h);
    context.globalAlpha = 1;
  }

  // Returns how many corners it took.
  drawOutline(context, {edges, coarse, step, corners, bitmap, colour, isSelected}) {
    if (!bitmap) return 0;
    const isFar = coarse && this.scale * this.ratio * step < 2;
    context.lineJoin = "miter"; // of right angles; half the work of round ones
    for (const [style, width] of [[DARK, 3.2], [colour, isSelected ? 1.8 : 1.2]]) {
      context.strokeStyle = style;
      context.lineWidth = width / this.scale;
      context.stroke(isFar ? coarse : edges);
    }
    return isFar ? corners / step : corners;
  }

  drawOverlay() {
    const context = this.overlay.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    if (!this.picture) return;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (!this.areMasksHidden) this.drawNumbers(context);
    this.drawStroke(context);
    for (const click of this.clicks) this.drawClick(context, click);
    if (!this.pointer) return;
    if (this.brush) this.drawRing(context, this.pointer, this.brush.radius * this.scale);
    else if (this.hasLines && this.isOnImage(this.pointer)) this.drawLines(context);
    if (this.hasLoupe) this.drawLoupe(context);
  }

  drawNumbers(context) {
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const {mask, label, colour, isSelected} of this.shown) {
      if (!label || !mask.w) continue;
      const [x, y] = this.toScreen([mask.x + mask.w / 2, mask.y + mask.h / 2]);
      const width = Math.max(18, context.measureText(label).width + 10);
      context.fillStyle = isSelected ? colour : DARK;
      context.beginPath();
      context.roundRect(x - width / 2, y - 9, width, 18, 9);
      context.fill();
      context.fillStyle = isSelected ? "#000" : LIGHT;
      context.fillText(label, x, y + 1);
    }
  }

  drawClick(context, {x, y, isHit, isLast}) {
    const [sx, sy] = this.toScreen([x, y]);
    context.lineWidth = 4.5;
    context.strokeStyle = DARK;
    context.beginPath();
    context.arc(sx, sy, HANDLE, 0, 7);
    context.stroke();
    context.lineWidth = 2;
    context.strokeStyle = isHit === 0 ? "#ffb020" : LIGHT;
    context.setLineDash(isHit === 0 ? [3, 3] : []); // told by form, too
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = isLast ? LIGHT : DARK;
    context.beginPath();
    context.arc(sx, sy, 1.6, 0, 7);
    context.fill();
  }

  drawLines(context) {
    const [x, y] = this.pointer;
    for (const [style, shift] of [["rgba(0,0,0,.45)", 1], ["rgba(255,255,255,.6)", 0]]) {
      context.strokeStyle = style;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(Math.round(x) + 0.5 + shift, 0);
      context.lineTo(Math.round(x) + 0.5 + shift, this.height);
      context.moveTo(0, Math.round(y) + 0.5 + shift);
      context.lineTo(this.width, Math.round(y) + 0.5 + shift);
      context.stroke();
    }
  }

  drawRing(context, [x, y], radius) {
    for (const [style, width] of [[DARK, 3], [LIGHT, 1.2]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, Math.max(radius, 1), 0, 7);
      context.stroke();
    }
  }

  drawStroke(context) {
    if (!this.stroke) return;
    const {points, radius, value} = this.stroke;
    context.strokeStyle = value ? "rgba(255,255,255,.55)" : "rgba(20,22,26,.6)";
    context.lineWidth = Math.max(2 * radius * this.scale, 1);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...this.toScreen(point)));
    if (points.length === 1) context.lineTo(...this.toScreen(points[0]));
    context.stroke();
  }

  // From the image, not from the canvas: the edge must be seen, not the markers.
  drawLoupe(context) {
    const size = 180, factor = Math.max(4, this.scale * 3);
    const [px, py] = this.pointer;
    const x = (px - this.left) / this.scale, y = (py - this.top) / this.scale;
    const left = px > this.width / 2 ? 16 : this.width - size - 16;
    context.save();
    context.beginPath();
    context.roundRect(left, 16, size, size, 12);
    context.fillStyle = "#000";
    context.fill();
    context.clip();
    context.imageSmoothingEnabled = false;
    const side = size / factor;
    context.drawImage(
      this.picture.bitmap, x - side / 2, y - side / 2, side, side, left, 16, size, size,
    );
    context.strokeStyle = "rgba(255,255,255,.9)";
    context.lineWidth = 1;
    context.strokeRect(left + size / 2 - factor / 2, 16 + size / 2 - factor / 2, factor, factor);
    context.restore();
    context.strokeStyle = DARK;
    context.lineWidth = 2;
    context.beginPath();
    context.roundRect(left, 16, size, size, 12);
    context.stroke();
  }
}
