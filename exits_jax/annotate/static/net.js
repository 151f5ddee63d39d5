// What goes to the server and comes from it.

export class Refusal extends Error {
  constructor(status, answer) {
    super(answer.error || `The server answered ${status}.`);
    this.status = status;
    this.code = answer.code || "";
  }
}

async function answered(response) {
  const isJson = (response.headers.get("content-type") || "").includes("json");
  const answer = isJson ? await response.json() : {error: await response.text()};
  if (!response.ok) throw new Refusal(response.status, answer);
  return answer;
}

export async function get(path) {
  return answered(await fetch(`/api/v1/${path}`));
}

const headers = {"Content-Type": "application/json", "X-Exits-Jax": "1"};

// Lets another tab write; sent while the page goes away.
export function leave(client) {
  const body = JSON.stringify({client, leave: true});
  fetch("/api/v1/writer", {method: "POST", headers, body, keepalive: true}).catch(() => {});
}

export async function post(path, body) {
  return answered(
    await fetch(`/api/v1/${path}`, {method: "POST", headers, body: JSON.stringify(body)}),
  );
}

// One worker, many questions.
export class Worker1 {
  constructor(url) {
    this.worker = new Worker(url, {type: "module"});
    this.waiting = new Map();
    this.next = 1;
    this.worker.onmessage = ({data}) => {
      this.waiting.get(data.id)(data);
      this.waiting.delete(data.id);
    };
  }

  ask(question) {
    return new Promise((resolve) => {
      const id = this.next++;
      this.waiting.set(id, resolve);
      this.worker.postMessage({...question, id});
    });
  }
}
