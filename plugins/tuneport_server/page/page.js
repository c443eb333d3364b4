// Updates the parts of a page that are marked data-live, shows the answers of a form that is marked data-stream as they
// arrive, and marks forms that are being sent.
// The page works without this.
"use strict";

const UPDATE_MS = 2000;

function isInUse(part) {
  const selection = window.getSelection();
  const copied = selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
  return copied || part.contains(document.activeElement); // what the user is using must not change
}

async function refresh() {
  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length === 0 || document.hidden) return;
  const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
  if (!answer.ok) return location.reload();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const now = fresh.getElementById(part.id);
    if (now !== null && now.innerHTML !== part.innerHTML && !isInUse(part)) part.replaceChildren(...now.childNodes);
  }
}

async function keepFresh() {
  try {
    await refresh();
  } catch {
    // The server cannot be reached: the page stays as it is, and the next update may succeed.
  }
  setTimeout(keepFresh, UPDATE_MS);
}

function make(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Shows one part of the answers: the models' names, or text for the section of one of them.
function show(place, part) {
  if (part.names) {
    place.replaceChildren(...part.names.map((name) => make("section", "", "card")));
    return part.names.forEach((name, at) => place.children[at].append(make("h2", name), make("pre", "")));
  }
  const section = place.children[part.at];
  if (part.text) section.querySelector("pre").append(part.text);
  if (part.call) section.append(make("pre", part.call));
  if (part.notice) section.append(make("p", part.notice, "warn"));
  if (part.error) section.append(make("p", part.error, "error"));
}

async function ask(form) {
  const body = new URLSearchParams(new FormData(form));
  const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "application/x-ndjson" } });
  if (!answer.ok) return form.submit(); // the page shows the error
  const place = make("div", "", "answers");
  document.querySelectorAll(".answers, .error.card").forEach((one) => one.remove());
  form.after(place);
  place.setAttribute("aria-live", "polite");
  place.setAttribute("aria-busy", "true");
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    const lines = (rest + read.value).split("\n");
    rest = lines.pop();
    lines.forEach((line) => show(place, JSON.parse(line)));
  }
  place.removeAttribute("aria-busy");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.classList.contains("sent") && "stream" in form.dataset) return event.preventDefault();
  form.classList.add("sent");
  if (!("stream" in form.dataset)) return;
  event.preventDefault();
  ask(form)
    .catch(() => form.after(make("p", "The server cannot be reached, or the answer was interrupted.", "error card")))
    .finally(() => form.classList.remove("sent"));
});
addEventListener("pageshow", () => document.querySelectorAll("form.sent").forEach((one) => one.classList.remove("sent")));
setTimeout(keepFresh, UPDATE_MS);
