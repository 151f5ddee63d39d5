// The page: what is open, what is selected, and what becomes of both.
import {get, leave, post, Refusal} from "./net.js";
import {Outbox} from "./outbox.js";
import {Pictures} from "./pictures.js";
import {Objects} from "./objects.js";
import {View} from "./view.js";
import {Review} from "./review.js";
import {listen} from "./input.js";
import {$, say, showClasses, showCommands, showModel, showObjects, showSaved} from "./panel.js";

const BEAT_MS = 3000, KEPT = 20, FEW_PX = 1;
const hex = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte + 256);

export const app = {
  client: hex.map((value) => value.toString(16).slice(1)).join(""),
  place: -1,
  objects: null,
  selected: null,
  tool: "click",
  radius: 12, // of the brush, px of the image
  kept: new Map(), // Objects by place, with what can be undone
  times: [], // seconds an object
};

const isPoints = () => app.mode === "points";
const isReview = () => app.mode === "review";
const canMask = () => !isPoints() && ["loading", "ready"].includes(app.model.state);

export function canEdit() {
  if (app.outbox.canWrite && app.objects) return true;
  if (app.objects) say("Another tab writes. Take over to go on here.", true);
  return false;
}

// Objects and their masks

export function select(object) {
  flushMove();
  app.selected = object;
  if (object) app.category = object.category;
  tellProgress(object);
  refresh();
}

function refresh() {
  app.refreshing ||= requestAnimationFrame(() => {
    app.refreshing = 0;
    draw();
  });
}

function draw() {
  const {objects, selected, view, categories} = app;
  if (!objects) return;
  const present = objects.present;
  view.shown = present
    .filter((object) => object.drawn && (object.status !== "rejected" || object === selected))
    .map((object) => ({
      ...object.drawn,
      colour: `rgb(${object.drawn.colour.join(", ")})`,
      isSelected: object === selected,
      label: isReview() && object !== selected ? "" : String(present.indexOf(object) + 1),
    }));
  const hits = selected && hitsOf(selected);
  view.clicks = (selected?.status === "gone" ? [] : selected?.clicks || []).map(
    ([x, y], i, all) => ({x, y, isHit: hits?.[i], isLast: i === all.length - 1}),
  );
  const drawn = view.shown.map((each) => [each.edges, each.isSelected]).flat();
  const isSame = drawn.length === app.drawn?.length && drawn.every((one, i) => one === app.drawn[i]);
  app.drawn = drawn;
  view.draw(isSame ? "overlay" : "all");
  showObjects(present, selected, categories, select);
  showClasses(categories, app.category, $("search").value, setCategory, addClass);
  showEdit(selected);
  if (isReview()) app.review.show();
}

// Whether the mask reaches each click, in the order in which they were made.
function hitsOf({quality, clicks, by}) {
  if (!quality?.click_hit || clicks.length !== 4 || by === "edited") return null;
  const [top, left, bottom, right] = quality.click_hit;
  const xs = clicks.map(([x]) => x), ys = clicks.map(([, y]) => y);
  return clicks.map(([x, y]) => {
    if (y === Math.min(...ys)) return top;
    if (x === Math.min(...xs)) return left;
    return y === Math.max(...ys) ? bottom : right;
  });
}

function showEdit(object) {
  const isDone = Boolean(object && object.status === "done");
  $("accept").disabled = !isDone;
  $("drop").disabled = !object;
  $("fill").disabled = !object?.rle;
  const canCut = isDone && canMask() && object.clicks.length === 4;
  $("threshold").disabled = !canCut;
  const value = object?.threshold ?? app.model.threshold ?? 0.5;
  if (document.activeElement !== $("threshold")) $("threshold").value = value;
  $("threshold-value").textContent = canCut ? Number(value).toFixed(2) : "";
}

function tellProgress(object) {
  if (!object || object.status === "gone") {
    const last = app.times.at(-1);
    const time = last ? ` ${last.toFixed(1)} s the last one, ${mean(app.times).toFixed(1)} s on average.` : "";
    say(`Click the top, left, bottom and right end of an object, in any order.${time}`);
  } else if (object.message) say(object.message, true);
  else if (object.status === "rejected") say("Rejected. Y accepts it after all, R repairs it.");
  else if (object.clicks.length < 4 && !object.rle) {
    say(`${object.clicks.length} of 4 clicks: top, left, bottom, right in any order.`);
  } else if (object.isComputing) {
    say(app.model.state === "loading"
      ? "The model is loading; go on with the next object."
      : "Computing; go on with the next object.");
  } else if (object.rle && object.by === "model") {
    say("Enter or the next object's first click accepts; drag a click to correct it.");
  } else if (object.rle) say(object.by === "edited" ? "Edited." : "Accepted.");
  else say("Four clicks. Enter goes on to the next object.");
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function changed(object) {
  askAll();
  if (object === app.selected) tellProgress(object);
  refresh();
}

const questionOf = ({clicks, threshold}) => JSON.stringify([clicks, threshold]);

function askAll() {
  if (!app.objects || !canMask() || !app.outbox.canWrite) return;
  for (const object of app.objects.present) {
    const {clicks, rle, by, status} = object;
    const isWanted = clicks.length === 4 && !rle && by !== "edited" && status === "done";
    if (isWanted && object.asked !== questionOf(object)) ask(object, app.objects);
  }
}

async function ask(object, objects) {
  const seq = (object.seq = (object.seq || 0) + 1), question = questionOf(object);
  Object.assign(object, {asked: question, isComputing: true, message: ""});
  const {key, clicks, threshold} = object;
  let answer = null, message = "";
  try {
    const place = objects.picture.info.place;
    answer = await post("predict", {place, object: key, clicks, threshold});
    if (!answer.rle) {
      message = `No pixel exceeds ${answer.threshold} (E301): lower the threshold with , or move a click.`;
    }
  } catch (error) {
    if (error instanceof Refusal && error.status === 422) message = error.message;
    else if (object.seq === seq) object.asked = null; // asked again with the next beat
  }
  if (object.seq !== seq) return; // a late answer to an older question
  Object.assign(object, {isComputing: false, message});
  if (answer?.rle && question === questionOf(object) && object.status === "done") {
    const {rle, quality} = answer;
    objects.change(object, "predict", {rle, quality, by: "model"}, {isUndoable: false});
  } else if (objects === app.objects) {
    if (object === app.selected) tellProgress(object);
    refresh();
  }
}

export function click(point) {
  if (!canEdit()) return;
  flushMove();
  const {objects} = app;
  let object = app.selected;
  const isRepair = isReview() && object?.isRepaired && object.clicks.length < 4;
  if (isReview() && !isRepair) {
    say("Y accepts, N rejects; R repairs by clicks, brush or threshold.");
    return;
  }
  if (!isRepair && object?.status !== "open") {
    acceptShown();
    object = objects.create(app.category);
    object.startedAt = performance.now();
    app.selected = object;
  }
  const clicks = [...object.clicks, point];
  const why = clicks.length === 4 ? faultOf(clicks) : "";
  if (why) {
    say(why, true);
    return;
  }
  const values = {clicks, category: object.category, status: object.rle ? "done" : "open"};
  if (clicks.length === 4) {
    Object.assign(values, {status: "done", rle: null, quality: null, by: "", seconds: secondsOf(object)});
  }
  objects.change(object, "click", values);
  if (clicks.length === 4 && isPoints()) finishPoints(object);
}

function secondsOf(object) {
  if (!object.startedAt) return object.seconds || 0;
  return Math.round((performance.now() - object.startedAt) / 10) / 100;
}

function finishPoints(object) {
  app.times.push(object.seconds);
  app.selected = null;
  tellProgress(null);
  refresh();
}

function faultOf(clicks) {
  for (const [axis, ends, word] of [[0, "leftmost and the rightmost", "width"], [1, "topmost and the bottommost", "height"]]) {
    const values = clicks.map((each) => each[axis]);
    if (Math.max(...values) - Math.min(...values) >= FEW_PX) continue;
    const name = "xy"[axis], at = Math.round(values[0]);
    return `The clicks have no ${word}: all are at ${name} = ${at}. Click the ${ends} pixel.`;
  }
  return "";
}

// What a person has seen and left as it is, is accepted.
function acceptShown() {
  if (!app.objects || isReview() || !app.outbox.canWrite) return;
  for (const object of app.objects.present) {
    if (object.isFresh && object.by === "model" && object.drawn) {
      const seconds = object.seconds || secondsOf(object);
      app.objects.change(object, "accept", {by: "accepted", seconds}, {isUndoable: false});
    }
  }
}

export function accept() {
  const object = app.selected;
  if (isReview()) return app.review.decide("accepted");
  if (!canEdit() || !object) return;
  if (object.status !== "done") return tellProgress(object);
  flushMove();
  const seconds = object.isFresh ? secondsOf(object) : object.seconds;
  if (object.rle && !object.isComputing) {
    const by = object.by === "edited" ? "edited" : "accepted";
    app.objects.change(object, "accept", {by, seconds});
  }
  if (object.isFresh) app.times.push(seconds);
  app.selected = null;
  tellProgress(null);
  refresh();
}

export function remove() {
  const object = app.selected;
  if (!canEdit() || !object) return;
  flushMove();
  stopAsking(object);
  app.objects.change(object, "delete", {status: "gone"});
  app.selected = null;
  say("Deleted. Ctrl Z brings it back.");
  refresh();
}

function stopAsking(object) {
  object.seq = (object.seq || 0) + 1;
  Object.assign(object, {asked: null, isComputing: false, message: ""});
}

export function escape() {
  if (app.tool !== "click") setTool("click");
  else if (app.selected?.status === "open" && canEdit()) remove();
  else {
    select(null);
    tellProgress(null);
  }
}

export function step(what) {
  if (!canEdit()) return;
  flushMove();
  const object = app.objects[what]();
  if (!object) return say(`There is nothing to ${what} on this image.`);
  stopAsking(object);
  app.selected = object.status === "gone" ? null : object;
  if (app.selected && object.status === "open" && !object.startedAt) object.startedAt = performance.now();
  changed(object);
  tellProgress(app.selected);
}

// Clicks that are moved: shown at once, told when they rest

export function moveClick(place, point) {
  const object = app.selected;
  if (!object || !canEdit()) return;
  app.moved ||= {object, before: structuredClone(object.clicks)};
  object.clicks[place] = point;
  refresh();
}

export function flushMove() {
  const {moved} = app;
  app.moved = null;
  clearTimeout(app.moveTimer);
  if (!moved) return;
  const {object, before} = moved, clicks = object.clicks;
  if (JSON.stringify(clicks) === JSON.stringify(before)) return;
  object.clicks = before;
  const why = clicks.length === 4 ? faultOf(clicks) : "";
  if (why) {
    say(why, true);
    refresh();
    return;
  }
  const values = {clicks};
  if (clicks.length === 4) Object.assign(values, {rle: null, quality: null, by: ""});
  app.objects.change(object, "move", values);
}

export function nudge(dx, dy) {
  const object = app.selected;
  if (!object?.clicks.length || (isReview() && !object.isRepaired)) return false;
  const place = app.dragged ?? object.clicks.length - 1;
  if (!object.clicks[place]) return false;
  const {width, height} = app.view.picture.bitmap, [x, y] = object.clicks[place];
  const kept = (value, last) => Math.min(Math.max(value, 0), last);
  moveClick(place, [kept(x + dx, width - 1), kept(y + dy, height - 1)]);
  clearTimeout(app.moveTimer);
  app.moveTimer = setTimeout(flushMove, 350);
  return true;
}

// Corrections

export function paint(points, radius, value) {
  if (!canEdit()) return;
  let object = app.selected;
  if (!object || object.status === "gone") {
    if (!value || isReview()) return say("Select the object first: Tab, or the list.");
    object = app.objects.create(app.category);
    object.startedAt = performance.now();
    app.selected = object;
  }
  stopAsking(object);
  app.objects.edit(object, "paint", {op: "paint", points, radius, value});
}

export async function part([x, y], keepsIt) {
  const object = app.selected;
  if (!canEdit() || !object?.drawn) return say("Select an object with a mask first.");
  if (app.objects.isIn(object, x, y)) {
    app.objects.edit(object, "part", {op: "part", x, y, keepsIt});
    return;
  }
  if (!canMask() || object.clicks.length !== 4) return say("Only the model of four clicks can add a part.");
  const objects = app.objects, {key, clicks} = object;
  try {
    const {rle} = await post("predict", {place: app.place, object: key, clicks, grow: [x, y]});
    if (!rle) return say("That is outside the box of the four clicks: move a click first.", true);
    objects.edit(object, "part", {op: "unite", rle});
  } catch (error) {
    say(error.message, true);
  }
}

export function fill() {
  const object = app.selected;
  if (canEdit() && object?.drawn) app.objects.edit(object, "fill", {op: "fill"});
}

export function setThreshold(value) {
  const object = app.selected, objects = app.objects;
  if ($("threshold").disabled || !canEdit()) return;
  value = Math.round(Math.min(Math.max(value, 0.02), 0.98) * 100) / 100;
  object.wished = value;
  $("threshold").value = value;
  $("threshold-value").textContent = value.toFixed(2);
  clearTimeout(app.thresholdTimer);
  app.thresholdTimer = setTimeout(async () => {
    const {key, clicks} = object;
    try {
      const place = objects.picture.info.place;
      const {rle, quality} = await post("predict", {place, object: key, clicks, threshold: value});
      if (object.wished !== value || object.clicks.length !== 4) return;
      object.message = rle ? "" : `No pixel exceeds ${value} (E301): lower the threshold with , or move a click.`;
      if (rle) objects.change(object, "threshold", {rle, quality, threshold: value, by: "edited"});
      else changed(object);
    } catch (error) {
      if (!(error instanceof Refusal && error.status === 409)) say(error.message, true);
    }
  }, 90);
}

export const threshold = () => app.selected?.wished ?? app.selected?.threshold ?? app.model.threshold ?? 0.5;

export function setCategory(id) {
  app.category = id;
  const object = app.selected;
  if (object && object.category !== id && canEdit()) app.objects.change(object, "class", {category: id});
  refresh();
}

// A class that nobody named at the start; the server has it before it is used.
export async function addClass(name) {
  if (!name || !canEdit()) return;
  try {
    const made = await post("classes", {client: app.client, name});
    takeClasses([made]);
    setCategory(made.id);
    say(`${made.name} is a class now.`);
  } catch (error) {
    say(error instanceof Refusal ? error.message : "The server has stopped.", true);
  }
}

// Objects share the list, so it is added to.
function takeClasses(categories) {
  const known = new Set(app.categories.map(({id}) => id));
  for (const each of categories) if (!known.has(each.id)) app.categories.push(each);
}

export function setTool(tool) {
  app.tool = tool;
  $("stage").dataset.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]:not(#stage)")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  const isBrush = tool === "brush" || tool === "erase";
  app.view.brush = isBrush ? {radius: app.radius} : null;
  app.view.hasLines = tool === "click" && !isReview();
  say({
    click: "Clicks.",
    brush: "Brush: paint; [ and ] change its size, Esc leaves.",
    erase: "Eraser: wipe; [ and ] change its size, Esc leaves.",
    part: "Click a part to drop it, with Shift to keep it alone; beside the mask to add one.",
  }[tool]);
  app.view.draw("overlay");
}

// Images

export async function open(place) {
  if (place < 0 || place >= app.state.images) return false;
  app.wanted = place; // a second key press counts from here
  flushMove();
  acceptShown();
  const turn = (app.turn = (app.turn || 0) + 1);
  let picture;
  try {
    const canReuse = app.kept.has(place) && app.outbox.canWrite;
    picture = canReuse ? await app.pictures.at(place) : await app.pictures.open(place);
  } catch (error) {
    say(error instanceof Refusal ? error.message : "The server has stopped.", true);
    return false;
  }
  if (app.turn !== turn) return false;
  Object.assign(app, {place, selected: null, objects: null});
  const {info} = picture;
  history.replaceState(null, "", `#${place + 1}`);
  $("where").textContent = `${place + 1}/${app.state.images} ${info.name}`;
  $("where").title = info.name;
  $("remarks").textContent = info.remarks.map((word) => word.replaceAll("_", " ")).join(", ");
  $("previous").disabled = place === 0;
  $("fault").hidden = !info.fault;
  $("fault").textContent = info.fault;
  app.view.shown = app.view.clicks = [];
  app.drawn = null;
  if (info.fault) {
    app.view.picture = null;
    app.view.draw();
    showObjects([], null, app.categories, select);
    return true;
  }
  app.objects = app.kept.get(place);
  if (!app.objects || !app.outbox.canWrite) {
    app.objects = new Objects(picture, app.categories, (event) => app.outbox.add(event), (object) => {
      if (app.objects?.at(object.key) === object) changed(object);
    });
  }
  app.kept.delete(place);
  app.kept.set(place, app.objects);
  for (const old of [...app.kept.keys()].slice(0, -KEPT)) app.kept.delete(old);
  app.view.show(picture);
  tellProgress(null);
  askAll();
  draw();
  app.pictures.ahead(isReview() ? app.review.nextPlace() : place + 1);
  return true;
}

export function turn(by) {
  if (isReview()) return app.review.move(by);
  if (app.wanted + by >= app.state.images) return finish();
  return open(app.wanted + by);
}

export async function finish() {
  flushMove();
  acceptShown();
  await app.outbox.send();
  const {out, commands} = app.state;
  const rows = await get("images?from=0&count=5000");
  const done = rows.reduce((sum, row) => sum + row.done, 0);
  const images = rows.filter((row) => row.done).length;
  const time = app.times.length ? ` ${mean(app.times).toFixed(1)} s an object.` : "";
  const train = ["Train on them (on a CPU, with a ViT-Tiny: --config=custom:cpu)", commands.train], predict = ["Masks for all clicks", commands.predict];
  const exported = ["Take the masks elsewhere", commands.export];
  showCommands(
    app.mode === "clicks" && canMask() ? [train, exported] : isPoints() || !isReview() ? [train, predict] : [exported, train],
    `${done} objects on ${images} of ${app.state.images} images are in ${out}.${time}`,
  );
  $("end").showModal();
}

// The server

async function beat() {
  try {
    const state = await get(`state?client=${app.client}`);
    const isBack = app.isLost || state.model.state !== app.model.state;
    Object.assign(app, {isLost: false, model: state.model});
    showModel(app.model, app.mode);
    takeClasses(state.categories);
    if (!state.writes) {
      const {writes} = await post("writer", {client: app.client});
      if (writes !== app.outbox.canWrite) await setWrites(writes);
    }
    if (isBack) app.outbox.send();
    askAll();
    if (state.snapshot_fault) say(`The journal is whole, but ${state.snapshot_fault}.`, true);
  } catch (error) {
    app.isLost = true;
    if (error instanceof Refusal && error.status === 403) say(error.message, true);
    else if (!app.outbox.queue.length) say("The server has stopped; start it again with the same --out.", true);
  }
}

async function setWrites(writes) {
  const wasReader = !app.outbox.canWrite;
  app.outbox.canWrite = writes;
  if (writes && wasReader) {
    await app.outbox.send();
    app.kept.clear(); // the other tab may have changed everything
    const key = app.selected?.key;
    if (app.place >= 0 && (await open(app.place))) select(app.objects?.at(key) || null);
  }
  app.outbox.tell();
}

export async function takeOver() {
  await setWrites((await post("writer", {client: app.client, take: true})).writes);
}

async function start() {
  history.replaceState(null, "", `/${location.hash}`); // the token is a cookie by now
  app.state = await get(`state?client=${app.client}`);
  Object.assign(app, {mode: app.state.mode, model: app.state.model, categories: app.state.categories});
  app.category = app.categories[0].id;
  document.title = `Annotate ${app.state.out}`;
  document.body.dataset.mode = app.mode;
  app.outbox = new Outbox(app.client, app.state.journal, showSaved);
  await app.outbox.start();
  const {writes} = await post("writer", {client: app.client});
  app.outbox.canWrite = writes;
  await app.outbox.send();
  app.outbox.tell();
  showModel(app.model, app.mode);
  app.pictures = new Pictures(app.state.images);
  app.view = new View($("base"), $("overlay"));
  app.view.resize();
  app.view.hasLines = !isReview();
  listen();
  if (isReview()) {
    app.review = new Review(await get("review"));
    await app.review.start();
  } else {
    await open(await firstPlace());
  }
  setInterval(beat, BEAT_MS);
  window.addEventListener("pagehide", () => leave(app.client));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => app.view.draw());
  document.body.dataset.ready = "yes";
}

async function firstPlace() {
  const asked = Number(location.hash.slice(1)) - 1;
  if (Number.isInteger(asked) && asked >= 0 && asked < app.state.images) return asked;
  const rows = await get("images?from=0&count=5000");
  return Math.max(0, rows.findIndex((row) => !row.done && !row.fault));
}

start().catch((error) => say(error.message, true));
