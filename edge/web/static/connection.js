// A stream of server-sent events that reconnects after any failure.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
// Health arrives every two seconds. After sleep, a phone may hold a dead connection.
const SILENCE_MS = 8000;

/**
 * Keeps a stream from `url` open.
 *
 * `handlers` maps event names to functions of the message's values. `onLost` is called with "" when
 * the connection is lost, and again with the server's message if the server refuses.
 */
export function connect(url, handlers, onLost) {
  let source = null;
  let wait = FIRST_WAIT_MS;
  let retry = 0;
  let watchdog = 0;
  let lost = false;
  let reported = "";

  function open() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(url);
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (message) => {
        wait = FIRST_WAIT_MS;
        lost = false;
        watch();
        handle(JSON.parse(message.data));
      });
    }
    source.addEventListener("error", lose);
    watch();
  }

  function watch() {
    clearTimeout(watchdog);
    watchdog = setTimeout(lose, SILENCE_MS);
  }

  function lose() {
    clearTimeout(watchdog);
    source.close();
    clearTimeout(retry);
    retry = setTimeout(open, wait);
    wait = Math.min(wait * 1.6, LONGEST_WAIT_MS);
    if (!lost) report("");
    lost = true;
    refusal(url).then((reason) => lost && reason !== reported && report(reason));
  }

  function report(reason) {
    reported = reason;
    onLost(reason);
  }

  function reconnectNow() {
    if (!document.hidden && source.readyState === EventSource.CLOSED) {
      wait = FIRST_WAIT_MS;
      open();
    }
  }

  document.addEventListener("visibilitychange", reconnectNow);
  window.addEventListener("online", reconnectNow);
  // Firefox closes the streams of a page in the back/forward cache.
  window.addEventListener("pageshow", (event) => event.persisted && open());
  open();
}

/** The message of a server that refuses, which EventSource does not expose. */
async function refusal(url) {
  const control = new AbortController();
  try {
    const answer = await fetch(url, { signal: control.signal });
    return answer.ok ? "" : (await answer.text()).trim();
  } catch {
    return "";
  } finally {
    control.abort();
  }
}
