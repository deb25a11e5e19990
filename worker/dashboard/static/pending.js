// Brings the numbers up to date, and selects all rows of a page. Everything works
// without it.
"use strict";

const EVERY_MS = 5000;
const fresh = document.getElementById("fresh");

async function refresh() {
  if (document.hidden || !document.querySelector("[data-live]")) return;
  try {
    const answer = await fetch(location.href, {
      headers: { "X-Refresh": "1" },
      signal: AbortSignal.timeout(10000),
    });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const now = page.getElementById(old.id);
      if (now && now.innerHTML !== old.innerHTML) replace(old, now);
    }
    say("");
  } catch {
    say("No answer; the numbers are old.");
  }
}

// Whoever is at a link with the keyboard stays at it.
function replace(old, now) {
  const focused = old.contains(document.activeElement) && document.activeElement;
  const href = focused && focused.getAttribute("href");
  old.replaceChildren(...now.childNodes);
  if (!href) return;
  for (const link of old.querySelectorAll("a"))
    if (link.getAttribute("href") === href) return link.focus({ preventScroll: true });
}

function say(text) {
  if (fresh.textContent !== text) fresh.textContent = text;
}

const every = document.getElementById("every");
if (every) {
  every.hidden = false;
  every.addEventListener("change", () => {
    for (const one of document.querySelectorAll("input[name=key][type=checkbox]"))
      one.checked = every.checked;
  });
}

setInterval(refresh, EVERY_MS);
