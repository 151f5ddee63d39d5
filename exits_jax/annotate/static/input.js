// Mouse and keys.
import {
  accept, addClass, app, canEdit, click, escape, fill, finish, flushMove, moveClick, nudge, paint, part,
  remove, select, setCategory, setThreshold, setTool, step, takeOver, threshold, turn,
} from "./main.js";
import {classLike} from "./classes.js";
import {$, say} from "./panel.js";

const MAX_RADIUS = 400;
let gesture = null, isSpaceHeld = false, pointerByKeys = null;

const at = (event) => {
  const {left, top} = $("overlay").getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
};

export function listen() {
  const overlay = $("overlay");
  overlay.addEventListener("pointerdown", down);
  overlay.addEventListener("pointermove", move);
  overlay.addEventListener("pointerup", up);
  overlay.addEventListener("pointercancel", () => (gesture = null));
  overlay.addEventListener("pointerleave", () => point(null));
  overlay.addEventListener("contextmenu", (event) => event.preventDefault());
  $("stage").addEventListener("wheel", wheel, {passive: false});
  document.addEventListener("keydown", keyDown);
  document.addEventListener("keyup", keyUp);
  window.addEventListener("blur", () => showMasks(true));
  buttons();
  $("stage").focus();
}

function buttons() {
  const on = (id, action) => $(id).addEventListener("click", (event) => {
    action();
    if (event.detail) $("stage").focus(); // by mouse: keys go on working
  });
  on("previous", () => turn(-1));
  on("next", () => turn(1));
  on("help", () => $("keys").showModal());
  on("finish", finish);
  on("take", takeOver);
  on("accept", accept);
  on("drop", remove);
  on("fill", fill);
  on("approve", () => app.review.decide("accepted"));
  on("reject", () => app.review.decide("rejected"));
  on("repair", () => app.review.repair());
  $("review").hidden = app.mode !== "review";
  $("accept").hidden = app.mode === "review";
  $("drop").hidden = app.mode === "review";
  $("edit").hidden = $("tools").hidden = app.mode === "points";
  for (const button of $("tools").children) {
    button.addEventListener("click", (event) => {
      setTool(button.dataset.tool);
      if (event.detail) $("stage").focus();
    });
  }
  $("threshold").addEventListener("input", () => setThreshold(Number($("threshold").value)));
  $("threshold").addEventListener("change", () => $("stage").focus());
  $("search").addEventListener("input", () => setCategory(app.category));
  for (const dialog of [$("keys"), $("end")]) {
    dialog.addEventListener("close", () => $("stage").focus());
  }
}

// Mouse

function point(place) {
  app.view.pointer = place;
  app.view.draw("overlay");
}

function down(event) {
  const place = at(event), {view} = app;
  $("stage").focus();
  $("overlay").setPointerCapture(event.pointerId);
  point(place);
  if (event.button === 1 || (event.button === 0 && isSpaceHeld)) {
    event.preventDefault();
    gesture = {kind: "pan", last: place};
    $("stage").classList.add("is-panning");
  } else if (event.button === 2) {
    step("undo");
  } else if (event.button === 0 && view.isOnImage(place)) {
    begin(event, place);
  }
}

function begin(event, place) {
  const {view, tool} = app, spot = view.toImage(place);
  if (event.altKey) {
    select(app.objects.present.findLast((object) => app.objects.isIn(object, ...spot)) || null);
  } else if (tool === "part") {
    part(spot, event.shiftKey);
  } else if (tool === "click") {
    const picked = view.clickAt(place);
    const isLocked = app.mode === "review" && !app.selected?.isRepaired;
    if (picked >= 0 && !isLocked) {
      const [x, y] = view.toScreen(app.selected.clicks[picked]);
      gesture = {kind: "drag", picked, shift: [place[0] - x, place[1] - y], start: place, spot};
      app.dragged = picked;
    } else {
      app.dragged = null;
      click(spot);
    }
  } else if (canEdit()) {
    gesture = {kind: "stroke"};
    const value = (tool === "brush") !== event.ctrlKey ? 1 : 0;
    view.stroke = {points: [spot], radius: app.radius, value};
    view.draw("overlay");
  }
}

function move(event) {
  const place = at(event), {view} = app;
  point(place);
  if (!gesture) return;
  if (gesture.kind === "pan") {
    view.pan(place[0] - gesture.last[0], place[1] - gesture.last[1]);
    gesture.last = place;
  } else if (gesture.kind === "drag") {
    const [dx, dy] = gesture.shift;
    const far = Math.hypot(place[0] - gesture.start[0], place[1] - gesture.start[1]);
    if (far < 3 && !gesture.isMoving) return;
    gesture.isMoving = true;
    moveClick(gesture.picked, view.toImage([place[0] - dx, place[1] - dy]));
  } else {
    const events = event.getCoalescedEvents?.() || [];
    for (const each of events.length ? events : [event]) view.stroke.points.push(view.toImage(at(each)));
  }
}

function up() {
  const {view} = app, done = gesture;
  gesture = null;
  $("stage").classList.remove("is-panning");
  if (done?.kind === "drag") drop(done);
  if (done?.kind === "stroke") {
    const {points, radius, value} = view.stroke;
    view.stroke = null;
    paint(points, radius, value);
    view.draw("overlay");
  }
}

// Two ends of an object may be near each other: what was not dragged is a click.
function drop({isMoving, spot}) {
  flushMove();
  if (isMoving || !(app.selected?.clicks.length < 4)) return;
  app.dragged = null;
  click(spot);
}

function wheel(event) {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 30 : 1;
  app.view.zoom(Math.exp(-event.deltaY * lines * 0.0015), at(event));
}

// Keys

const KEYS = {
  d: () => turn(1),
  a: () => turn(-1),
  f: () => app.view.fit() ?? app.view.draw(),
  b: () => setTool("brush"),
  e: () => setTool("erase"),
  x: () => setTool("part"),
  h: fill,
  l: () => {
    app.view.hasLoupe = !app.view.hasLoupe;
    app.view.draw("overlay");
  },
  k: toggleKeys,
  m: () => showMasks(false),
  c: () => $("search").focus(),
  y: () => app.review?.decide("accepted"),
  n: () => app.review?.decide("rejected"),
  r: () => app.review?.repair(),
  ",": () => setThreshold(threshold() - 0.02),
  ".": () => setThreshold(threshold() + 0.02),
  "[": () => resizeBrush(1 / 1.25),
  "]": () => resizeBrush(1.25),
  "+": () => app.view.zoom(1.25, app.view.pointer),
  "=": () => app.view.zoom(1.25, app.view.pointer),
  "-": () => app.view.zoom(0.8, app.view.pointer),
  "?": () => $("keys").showModal(),
  Backspace: () => step("undo"),
  Delete: remove,
  Escape: escape,
  Enter: enter,
};

function keyDown(event) {
  if (document.querySelector("dialog[open]")) return;
  const {key, target} = event, isButton = target.tagName === "BUTTON";
  if (target === $("search")) return searchKey(event);
  if (target.type === "range" && key.startsWith("Arrow")) return;
  if (isButton && (key === "Enter" || key === " ")) return;
  if (target.tagName === "UL" && listKey(event)) return;
  if (key === "Tab") return tab(event);
  if (key === " ") {
    isSpaceHeld = true;
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey) return withControl(event);
  if (event.altKey) return;
  if (key.startsWith("Arrow")) return arrow(event);
  if (/^[0-9]$/.test(key)) {
    const category = app.categories[(Number(key) + 9) % 10];
    if (category) setCategory(category.id);
    return;
  }
  const action = KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!action) return;
  event.preventDefault();
  action();
}

function keyUp(event) {
  if (event.key === " ") isSpaceHeld = false;
  if (event.key.toLowerCase() === "m") showMasks(true);
}

function withControl(event) {
  const key = event.key.toLowerCase();
  if (key === "z") step(event.shiftKey ? "redo" : "undo");
  else if (key === "y") step("redo");
  else return;
  event.preventDefault();
}

// From one object to the next; beyond the last to what follows on the page.
function tab(event) {
  if (event.target !== $("stage") || !app.objects) return;
  const present = app.objects.present;
  const place = present.indexOf(app.selected), by = event.shiftKey ? -1 : 1;
  const next = place < 0 && event.shiftKey ? -1 : place + by;
  if (app.mode === "review" || next < 0 || next >= present.length) return;
  event.preventDefault();
  select(present[next]);
}

function listKey(event) {
  const by = {ArrowDown: 1, ArrowUp: -1}[event.key];
  if (!by) return false;
  event.preventDefault();
  if (event.target === $("classes")) {
    const place = app.categories.findIndex(({id}) => id === app.category) + by;
    if (app.categories[place]) setCategory(app.categories[place].id);
  } else if (app.objects) {
    const present = app.objects.present, next = present[present.indexOf(app.selected) + by];
    if (next) select(next);
  }
  return true;
}

function searchKey(event) {
  if (event.key === "Enter" && event.shiftKey) {
    addClass($("search").value.trim());
    $("search").value = "";
  } else if (event.key === "Enter") {
    const text = $("search").value.trim();
    const found = classLike(app.categories, text);
    if (!found) return say(`No class has ${text} in its name; ⇧ Enter adds it.`, true);
    $("search").value = "";
    setCategory(found.id);
  } else if (event.key === "Escape") $("search").value = "";
  else return;
  event.preventDefault();
  setCategory(app.category);
  $("stage").focus();
}

function arrow(event) {
  const far = event.shiftKey ? 10 : 1;
  const [dx, dy] = {
    ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far],
  }[event.key];
  event.preventDefault();
  if (pointerByKeys) {
    const {width, height} = app.view.picture.bitmap, [x, y] = pointerByKeys;
    const kept = (value, last) => Math.min(Math.max(value, 0), last);
    pointerByKeys = [kept(x + dx, width - 1), kept(y + dy, height - 1)];
    point(app.view.toScreen(pointerByKeys));
    say(`Pointer at ${pointerByKeys.map(Math.round).join(", ")}; Enter clicks.`);
  } else nudge(dx, dy);
}

function toggleKeys() {
  if (!app.view.picture) return;
  const {width, height} = app.view.picture.bitmap;
  pointerByKeys = pointerByKeys ? null
    : app.view.pointer ? app.view.toImage(app.view.pointer)
      : [Math.floor(width / 2), Math.floor(height / 2)];
  point(pointerByKeys && app.view.toScreen(pointerByKeys));
  say(pointerByKeys ? "The arrows move the pointer, Enter clicks; K ends it." : "The arrows nudge the last click.");
}

function enter() {
  const isMade = app.selected?.status === "done";
  if (pointerByKeys && !isMade && app.mode !== "review") click(pointerByKeys.map(Math.round));
  else accept();
}

function showMasks(areShown) {
  if (!app.view || app.view.areMasksHidden === !areShown) return;
  app.view.areMasksHidden = !areShown;
  app.view.draw();
}

function resizeBrush(factor) {
  app.radius = Math.min(Math.max(app.radius * factor, 0.5), MAX_RADIUS);
  if (app.view.brush) app.view.brush.radius = app.radius;
  app.view.draw("overlay");
}
