// Requests, and what goes wrong with them, in words.

const TIMEOUT = 60_000; // milliseconds

/** Something to tell the user; `status` is that of HTTP, or 0. */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Sends a request, with the token `ask.token` where there is one.
 * Throws a Problem in words, or the AbortError of `signal`.
 */
export async function ask(path, { accept = "application/json", body, signal } = {}) {
  const headers = { Accept: accept };
  if (ask.token) headers.Authorization = `Bearer ${ask.token}`;
  if (body) headers["Content-Type"] = body.type.startsWith("image/") ? body.type : "application/dicom";
  const late = AbortSignal.timeout(TIMEOUT);
  try {
    const response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    if (response.ok) return response;
    throw new Problem(response.status, await wordsOf(response));
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new Problem(0, "The server took longer than a minute.");
    throw new Problem(0, "The server does not answer, or the file cannot be read any more.");
  }
}
ask.token = "";

async function wordsOf(response) {
  if (response.status === 401)
    return ask.token ? "The server does not accept this token." : "The server asks for a token.";
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}
