// Masks that were made elsewhere, one after another, the doubtful ones first.
import {app, canEdit, flushMove, open, select, finish} from "./main.js";
import {$, say} from "./panel.js";

const RECENT = 20;

export class Review {
  // rows: [place of the image, key, by, status], in the order to look at them.
  constructor(rows) {
    this.rows = rows.map(([place, key, by, status]) => ({place, key, by, status}));
    this.at = -1;
    this.times = [];
  }

  isDecided({by, status}) {
    return status !== "done" || by === "accepted" || by === "edited";
  }

  get decided() {
    return this.rows.filter((row) => this.isDecided(row)).length;
  }

  async start() {
    const first = this.rows.findIndex((row) => !this.isDecided(row));
    if (!this.rows.length) return say("There is no object in these masks.", true);
    await this.open(Math.max(0, first));
  }

  async open(at) {
    if (at < 0 || at >= this.rows.length) return;
    flushMove();
    this.at = at;
    const {place, key} = this.rows[at];
    if (place !== app.place && !(await open(place))) return;
    const object = app.objects?.at(key);
    this.since = performance.now();
    if (!object) return say("The image of this object cannot be read.", true);
    object.isRepaired = false;
    select(object);
    await object.decoding;
    const box = boxOf(object);
    if (box) app.view.frame(...box, 1.7);
    const {score} = object.quality || {};
    say(score === undefined ? "Right?" : `Score ${score.toFixed(2)}. Right?`);
  }

  nextPlace() {
    const next = this.rows.slice(this.at + 1).find((row) => row.place !== app.place);
    return next ? next.place : app.place;
  }

  move(by) {
    return this.open(this.at + by);
  }

  async decide(what) {
    const object = app.selected, row = this.rows[this.at];
    if (!object || object.key !== row.key || !canEdit()) return;
    flushMove();
    if (object.isComputing) return say("Its new mask is being computed.");
    if (what === "accepted") {
      if (!object.rle) return say("It has no mask: R repairs, N rejects.", true);
      const by = object.by === "edited" || object.isRepaired ? "edited" : "accepted";
      app.objects.change(object, "accept", {by, status: "done", seconds: this.seconds()});
    } else {
      app.objects.change(object, "reject", {status: "rejected", seconds: this.seconds()});
    }
    Object.assign(row, {by: object.by, status: object.status});
    this.times.push(this.seconds());
    const after = this.rows.findIndex((each, i) => i > this.at && !this.isDecided(each));
    const next = after >= 0 ? after : this.rows.findIndex((each) => !this.isDecided(each));
    if (next >= 0) await this.open(next);
    else finish();
  }

  repair() {
    const object = app.selected;
    if (!object || !canEdit()) return;
    object.isRepaired = true;
    if (object.status === "rejected") app.objects.change(object, "repair", {status: "done"});
    say(object.clicks.length === 4
      ? "Drag a click, paint (B), erase (E), or change the threshold; Y accepts."
      : "Click its four ends, or paint (B) and erase (E); Y accepts.");
  }

  seconds() {
    return Math.round((performance.now() - this.since) / 10) / 100;
  }

  show() {
    const left = this.rows.length - this.decided, recent = this.times.slice(-RECENT);
    let text = `${this.decided} of ${this.rows.length} seen`;
    if (recent.length > 2 && left) {
      const each = [...recent].sort((a, b) => a - b)[recent.length >> 1];
      const minutes = Math.ceil((each * left) / 60);
      text += `, about ${minutes} min left`;
    }
    $("review-progress").textContent = text;
  }
}

function boxOf({drawn, clicks}) {
  if (drawn?.mask.w) {
    const {x, y, w, h} = drawn.mask;
    return [x, y, w, h];
  }
  if (clicks.length < 2) return null;
  const xs = clicks.map(([x]) => x), ys = clicks.map(([, y]) => y);
  const x = Math.min(...xs), y = Math.min(...ys);
  return [x, y, Math.max(...xs) - x + 1, Math.max(...ys) - y + 1];
}
