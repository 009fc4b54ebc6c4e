// Server-sent events that come back by themselves, whatever happened to the other side.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
// Health comes every two seconds; a phone that slept may hold a connection that is long dead.
const SILENCE_MS = 8000;

/**
 * Keep listening to `url`.
 *
 * handlers: by event name, each takes the message's values. onLost is called when the connection
 * is gone, and again with the server's own words if it answers but refuses.
 */
export function connect(url, handlers, onLost) {
  let source = null;
  let wait = FIRST_WAIT_MS;
  let retry = 0;
  let watchdog = 0;
  let lost = false;
  let said = "";

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
    if (!lost) say("");
    lost = true;
    refusal(url).then((words) => lost && words !== said && say(words));
  }

  function say(words) {
    said = words;
    onLost(words);
  }

  function hurry() {
    if (!document.hidden && source.readyState === EventSource.CLOSED) {
      wait = FIRST_WAIT_MS;
      open();
    }
  }

  document.addEventListener("visibilitychange", hurry);
  window.addEventListener("online", hurry);
  // Firefox ends the streams of a page that is kept for the back button.
  window.addEventListener("pageshow", (event) => event.persisted && open());
  open();
}

/** What a server says that refuses, which EventSource keeps to itself. */
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
