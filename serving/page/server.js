// The server: asks it, and tells errors that a person can read.

const TIMEOUT = 60; // seconds

export async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(TIMEOUT * 1000) });
  } catch (error) {
    const late = `The server did not answer within ${TIMEOUT} seconds.`;
    const gone = "The server can't be reached: the network failed, or it is not running.";
    throw new Error(error.name === "TimeoutError" ? late : gone);
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  const message = body?.error?.message ?? `The server's answer can't be read (HTTP ${response.status}).`;
  throw Object.assign(new Error(message), { code: body?.error?.code });
}
