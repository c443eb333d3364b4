// Keeps the parts of a page that are marked data-live as the server has them, and says that a form is under way.
// The page works without this.
"use strict";

const EVERY = 2000;

function busy(part) {
  const selection = window.getSelection();
  const copied = selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
  return copied || part.contains(document.activeElement); // what somebody uses must not go away
}

async function refresh() {
  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length === 0 || document.hidden) return;
  const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
  if (!answer.ok) return location.reload();
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts) {
    const now = fresh.getElementById(part.id);
    if (now !== null && now.innerHTML !== part.innerHTML && !busy(part)) part.replaceChildren(...now.childNodes);
  }
}

async function keep() {
  try {
    await refresh();
  } catch {
    // The server is away for a moment: what is shown stays, and the next look may find it again.
  }
  setTimeout(keep, EVERY);
}

document.addEventListener("submit", (event) => event.target.classList.add("sent"));
addEventListener("pageshow", () => document.querySelectorAll("form.sent").forEach((one) => one.classList.remove("sent")));
setTimeout(keep, EVERY);
