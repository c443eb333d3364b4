// Keeps the parts of a page marked data-live as the server has them, unless somebody is using one. The page works without this.
"use strict";

const EVERY = 2000;

async function refresh() {
  const live = document.querySelector("[data-live]");
  if (live === null || document.hidden || live.contains(document.activeElement)) return;
  if (String(window.getSelection()) !== "") return; // a text that is being copied must not go away
  const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
  if (!answer.ok) return location.reload();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
  if (fresh !== null && fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
}

async function keep() {
  try {
    await refresh();
  } catch {
    // The server is away for a moment: what is shown stays, and the next look may find it again.
  }
  setTimeout(keep, EVERY);
}

setTimeout(keep, EVERY);
