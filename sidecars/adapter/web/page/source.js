// What comes from the server: pages of entries, and what is added.

const token = () => sessionStorage.getItem("token");

export class Locked extends Error {}

async function ask(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.status === 401) throw new Locked();
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error ?? `the server answers ${answer.status}`), { status: answer.status });
  }
  return answer;
}

export const files = async () => (await ask("files")).json();

// A page: { entries, before, after, earlier, later, incomplete }.
export async function page(parameters, signal) {
  const answer = await ask(`logs?${new URLSearchParams([...parameters, ["format", "page"]])}`, { signal });
  const text = await answer.text();
  const entries = text.split("\n").filter(Boolean).map(line => JSON.parse(line));
  const head = name => answer.headers.get(name);
  const links = head("Link") ?? "";
  return {
    entries, before: head("X-Before"), after: head("X-After"), incomplete: head("X-Incomplete"),
    earlier: links.includes('rel="prev"'), later: links.includes('rel="next"'),
  };
}

async function* lines(stream) {
  let rest = "";
  // Not every browser iterates over a stream.
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const parts = (rest + read.value).split("\n");
    rest = parts.pop();
    yield parts.filter(Boolean).map(line => JSON.parse(line));
  }
}

// Follows from a cursor, through broken connections, until the signal; `take` gets entries, `tell` what goes on.
export async function follow(cursor, parameters, signal, take, tell) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const asked = new URLSearchParams([...parameters, ["format", "page"], ["follow", "1"], ["after", cursor]]);
      const answer = await ask(`logs?${asked}`, { signal });
      tell("live");
      wait = 500;
      for await (const some of lines(answer.body)) {
        for (const each of some) if (each.next) cursor = each.next;
        const entries = some.filter(each => !each.next);
        if (entries.length) take(entries, cursor);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Locked) throw error;
      tell("lost", error.message);
    }
    if (signal.aborted) return;
    await new Promise(resume => setTimeout(resume, wait));
    wait = Math.min(wait * 2, 10_000);
  }
}
