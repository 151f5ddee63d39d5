// The side panel and the bars: lists, buttons, words.
import {colourOf, cssOf} from "./objects.js";

export const $ = (id) => document.getElementById(id);

export function say(text, isBad = false) {
  $("progress").textContent = text;
  $("progress").classList.toggle("is-bad", isBad);
}

function item(parts, label) {
  const made = document.createElement("li");
  made.setAttribute("role", "option");
  made.setAttribute("aria-label", label);
  made.append(...parts);
  return made;
}

// A row is made only where it says something new: a list may have hundreds.
function showRows(list, rows) {
  let isNew = list.children.length !== rows.length, picked = null;
  rows.forEach(({says, make, isSelected, onPick}, place) => {
    let row = list.children[place];
    if (row?.says !== says) {
      const made = make();
      made.says = says;
      if (row) row.replaceWith(made);
      else list.append(made);
      row = made;
      isNew = true;
    }
    row.onclick = onPick || null;
    if (isSelected !== undefined && row.ariaSelected !== String(isSelected)) {
      row.setAttribute("aria-selected", String(isSelected));
      isNew = true;
    }
    if (isSelected) picked = row;
  });
  while (list.children.length > rows.length) list.lastChild.remove();
  if (isNew) picked?.scrollIntoView({block: "nearest"});
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
    const place = places.get(object.category) ?? 0;
    const make = () => {
      const row = item(
        [
          span("number", String(number + 1)),
          span("dot", "", colourOf(place)),
          span("grow", name),
          span("number", score),
          span("number", hit),
          span("mark", mark),
        ],
        `${number + 1}, ${name}, ${state}${score && `, score ${score}`}`,
      );
      row.title = state;
      return row;
    };
    const says = JSON.stringify([place, name, score, hit, mark, state]);
    return {says, make, isSelected: object === selected, onPick: () => onPick(object)};
  });
  if (!rows.length) {
    const make = () => {
      const row = document.createElement("li");
      row.className = "empty";
      row.append(span("empty", "Click the outermost points of an object."));
      return row;
    };
    rows.push({says: "", make});
  }
  showRows($("objects"), rows);
  const done = objects.filter(({status}) => status === "done").length;
  $("count").textContent = `${done} done`;
}

export function showClasses(categories, current, filter, onPick, onAdd) {
  const rows = [];
  filter = filter.trim();
  categories.forEach(({id, name}, place) => {
    if (filter && !name.toLowerCase().includes(filter.toLowerCase())) return;
    const key = place < 10 ? String((place + 1) % 10) : "";
    const make = () =>
      item([span("dot", "", colourOf(place)), span("grow", name), span("number", key)], name);
    const says = JSON.stringify([place, name]);
    rows.push({says, make, isSelected: id === current, onPick: () => onPick(id)});
  });
  if (filter && !categories.some(({name}) => name === filter)) {
    const make = () => item([span("grow", `add ${filter}`), span("number", "⇧ ⏎")], `add the class ${filter}`);
    rows.push({says: `+${filter}`, make, isSelected: false, onPick: () => onAdd(filter)});
  }
  showRows($("classes"), rows);
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
    none: {points: "clicks only", review: "no model"}[mode] || "no model: clicks now, masks later",
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
    code.textContent = command.length < 90 ? command : command.replaceAll(" --", " \\\n    --");
    parts.push(heading, code);
  }
  $("commands").replaceChildren(...parts);
}
