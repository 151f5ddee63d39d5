// The side panel and the bars: lists, buttons, words.
import {colourOf, cssOf} from "./objects.js";

export const $ = (id) => document.getElementById(id);

export function say(text, isBad = false) {
  $("progress").textContent = text;
  $("progress").classList.toggle("is-bad", isBad);
}

function item(parts, {isSelected, label, onPick}) {
  const made = document.createElement("li");
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", String(isSelected));
  made.setAttribute("aria-label", label);
  made.append(...parts);
  made.addEventListener("click", onPick);
  return made;
}

function span(kind, text, colour) {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  if (colour) made.style.setProperty("background", cssOf(colour));
  return made;
}

// What an object's state is called and how it is marked, never by colour alone.
export function stateOf(object) {
  if (object.isComputing) return ["…", "computing"];
  if (object.status === "rejected") return ["✕", "rejected"];
  if (object.message) return ["!", object.message];
  if (object.status === "open") return ["◔", `${object.clicks.length} of 4 clicks`];
  if (object.by === "edited") return ["✎", "edited"];
  if (object.by === "accepted") return ["✓", "accepted"];
  if (object.by === "model") return ["?", "not accepted yet"];
  return ["·", object.rle ? "mask" : "clicks"];
}

export function showObjects(objects, selected, categories, onPick) {
  const names = new Map(categories.map(({id, name}) => [id, name]));
  const places = new Map(categories.map(({id}, place) => [id, place]));
  const rows = objects.map((object, number) => {
    const [mark, state] = stateOf(object);
    const name = names.get(object.category) ?? "?";
    const score = object.quality ? object.quality.score.toFixed(2) : "";
    const hits = object.quality?.click_hit;
    const hit = hits ? `${hits.reduce((sum, one) => sum + one, 0)}/4` : "";
    const row = item(
      [
        span("number", String(number + 1)),
        span("dot", "", colourOf(places.get(object.category) ?? 0)),
        span("grow", name),
        span("number", score),
        span("number", hit),
        span("mark", mark),
      ],
      {
        isSelected: object === selected,
        label: `${number + 1}, ${name}, ${state}${score && `, score ${score}`}`,
        onPick: () => onPick(object),
      },
    );
    row.title = state;
    return row;
  });
  if (!rows.length) {
    const none = span("empty", "Click the outermost points of an object.");
    const row = document.createElement("li");
    row.className = "empty";
    row.append(none);
    rows.push(row);
  }
  $("objects").replaceChildren(...rows);
  rows[objects.indexOf(selected)]?.scrollIntoView({block: "nearest"});
  const done = objects.filter(({status}) => status === "done").length;
  $("count").textContent = `${done} done`;
}

export function showClasses(categories, current, filter, onPick) {
  const rows = [];
  categories.forEach(({id, name}, place) => {
    if (filter && !name.toLowerCase().includes(filter.toLowerCase())) return;
    const key = place < 10 ? String((place + 1) % 10) : "";
    rows.push(
      item(
        [span("dot", "", colourOf(place)), span("grow", name), span("number", key)],
        {isSelected: id === current, label: name, onPick: () => onPick(id)},
      ),
    );
  });
  $("classes").replaceChildren(...rows);
  rows.find((row) => row.ariaSelected === "true")?.scrollIntoView({block: "nearest"});
}

export function showSaved({state, waiting, message, savedAt}) {
  const pill = $("saved");
  pill.dataset.state = state;
  const events = waiting === 1 ? "1 event waits" : `${waiting} events wait`;
  pill.textContent = {
    saved: savedAt ? `saved ${savedAt.toLocaleTimeString("en-GB")}` : "saved",
    saving: "saving",
    waiting: `not saved, ${events}`,
    readonly: waiting ? `read-only, ${events}` : "read-only",
    refused: waiting ? `a change is not saved, ${events}` : "a change is not saved",
  }[state];
  pill.title = message;
  $("take").hidden = state !== "readonly";
  if (state === "refused") {
    say(`${message} Load the page again to see what is saved.`, true);
  }
  if (state === "waiting") {
    const kept = `${waiting} event${waiting === 1 ? " is" : "s are"} kept in this tab`;
    say(message === "The server has stopped."
      ? `The server has stopped. ${kept}; start it again with the same --out.`
      : `${message} ${kept}.`, true);
  }
}

export function showModel(model, mode) {
  const pill = $("model");
  pill.dataset.state = model.state === "ready" ? "saved" : model.state;
  const seconds = model.seconds >= 0.5 ? `, ${model.seconds.toFixed(1)} s an object` : "";
  pill.textContent = {
    none: mode === "points" ? "clicks only" : "no model: clicks now, masks later",
    loading: "model loading",
    ready: `${(model.name || "").split("/").pop()}, threshold ${model.threshold}${seconds}`,
    error: "no model",
  }[model.state];
  pill.title = model.error || model.method || "";
}

export function showCommands(commands, text) {
  $("end-text").textContent = text;
  const parts = [];
  for (const [title, command] of commands) {
    const heading = document.createElement("h2"), code = document.createElement("pre");
    heading.textContent = title;
    code.textContent = command;
    parts.push(heading, code);
  }
  $("commands").replaceChildren(...parts);
}
