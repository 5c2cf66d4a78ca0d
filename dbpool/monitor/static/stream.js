// Stream: the events of the server, followed for as long as the page is open. A stream that says nothing is lost, too.

const SILENCE = 4000; // milliseconds without a word after which we say so
const RETRY = 2000; // ... and between two tries

export function follow(hear, tell) {
  let source, heard, isLost = false;

  function lost(is) {
    if (is !== isLost) tell((isLost = is));
  }

  function open() {
    source?.close();
    heard = Date.now();
    source = new EventSource("events");
    for (const kind of ["history", "state"]) {
      source.addEventListener(kind, (event) => {
        heard = Date.now();
        lost(false);
        hear(kind, JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      lost(true);
      setTimeout(reopen, RETRY);
    };
  }

  async function reopen() {
    const answer = await fetch("json").catch(() => null);
    if (answer?.status === 401) location.assign("login");
    else open();
  }

  setInterval(() => {
    const silent = Date.now() - heard;
    if (silent > SILENCE) lost(true);
    if (silent > 3 * SILENCE) open();
  }, 500);
  open();
}
