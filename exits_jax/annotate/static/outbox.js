// Events on their way: in IndexedDB until the server says that they are on its disk.
import {post, Refusal} from "./net.js";

const MAX_BYTES = 800_000, MAX_EVENTS = 200, RETRY_MS = [500, 1000, 2000, 4000];

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function opened() {
  const request = indexedDB.open("exits_jax", 1);
  request.onupgradeneeded = () =>
    request.result.createObjectStore("events", {autoIncrement: true});
  return promised(request);
}

export class Outbox {
  // onChange({state, waiting, message}): "saved", "saving", "waiting", "readonly" or
  // "refused": an event was lost, which stays so until the page is loaded again.
  constructor(client, journal, onChange) {
    Object.assign(this, {client, journal, onChange});
    this.queue = [];
    this.count = 0;
    this.failures = 0;
    this.isSending = false;
    this.canWrite = false;
    this.message = "";
    this.refused = ""; // why an event was not taken
  }

  // Takes over what an earlier loading of this page could not deliver.
  async start() {
    try {
      this.database = await opened();
    } catch {
      this.database = null; // private windows may have none: the queue is in memory
      return;
    }
    const store = this.database.transaction("events").objectStore("events");
    const [keys, kept] = [store.getAllKeys(), store.getAll()].map(promised);
    const values = await kept;
    (await keys).forEach((key, i) => {
      const {journal, event} = values[i];
      if (journal === this.journal) this.queue.push({event, key: Promise.resolve(key)});
    });
  }

  add(event) {
    event = {client: this.client, n: ++this.count, ...event};
    this.queue.push({event, key: this.keep(event)});
    this.tell();
    this.send();
  }

  async keep(event) {
    if (!this.database) return null;
    try {
      const store = this.database.transaction("events", "readwrite").objectStore("events");
      return await promised(store.add({journal: this.journal, event}));
    } catch {
      return null;
    }
  }

  async forget(entries) {
    const keys = await Promise.all(entries.map((entry) => entry.key));
    if (!this.database) return;
    const store = this.database.transaction("events", "readwrite").objectStore("events");
    for (const key of keys) if (key !== null) store.delete(key);
  }

  // Resolves when nothing waits, or nothing can be delivered for now.
  async send() {
    if (this.isSending || !this.canWrite || !this.queue.length) return;
    this.isSending = true;
    clearTimeout(this.timer);
    this.tell();
    let alone = false;
    while (this.queue.length && this.canWrite) {
      const entries = alone ? this.queue.slice(0, 1) : this.first();
      try {
        await post("events", {
          client: this.client,
          events: entries.map((entry) => entry.event),
        });
      } catch (error) {
        if (error instanceof Refusal && [400, 413].includes(error.status)) {
          if (entries.length > 1) {
            alone = true; // find the one that is refused
            continue;
          }
          this.refused = `A change was refused and is not saved: ${error.message}`;
          console.warn(this.refused, entries[0].event);
        } else {
          this.fail(error);
          break;
        }
      }
      alone = false;
      this.failures = 0;
      this.queue.splice(0, entries.length);
      this.forget(entries);
    }
    this.isSending = false;
    if (!this.queue.length) this.savedAt = new Date();
    this.tell();
  }

  first() {
    const entries = [];
    let bytes = 0;
    for (const entry of this.queue.slice(0, MAX_EVENTS)) {
      bytes += JSON.stringify(entry.event).length;
      if (entries.length && bytes > MAX_BYTES) break;
      entries.push(entry);
    }
    return entries;
  }

  fail(error) {
    if (error instanceof Refusal && error.status === 409) this.canWrite = false;
    const said = error instanceof Refusal ? error.message : "The server has stopped.";
    this.message = said;
    const wait = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
    this.timer = setTimeout(() => this.send(), wait);
  }

  tell() {
    const waiting = this.queue.length;
    let state = waiting ? "saving" : "saved";
    if (this.refused) state = "refused";
    if (waiting && this.failures) state = "waiting";
    if (!this.canWrite) state = "readonly";
    if (!this.failures && state !== "readonly") this.message = "";
    const message = [this.refused, this.message].filter(Boolean).join(" ");
    this.onChange({state, waiting, message, savedAt: this.savedAt});
  }
}
