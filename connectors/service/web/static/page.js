// What the page does more with a script: "/" goes to the search box, and what is under way is followed without reloading.
"use strict";

const BUSY = 1000; // milliseconds between two looks while a sync runs
const CALM = 5000;

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  const box = document.getElementById("q");
  if (!box) {
    location.assign("/");
    return;
  }
  box.focus();
  box.select();
});

// A notice is told once, not again when the page is reloaded.
const address = new URL(location.href);
if (address.searchParams.has("done")) {
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = new Date(time.dateTime).toLocaleString();
  }
}

// Makes `old` like `fresh` and leaves alone what is alike, so that focus and selection stay where they are.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((child, position) => {
    if (position < before.length) morph(before[position], child);
    else old.append(child);
  });
  for (const child of before.slice(after.length)) child.remove();
}

function states(root) {
  return new Map([...root.querySelectorAll("[data-status]")].map((item) => [item.id, item.dataset.status]));
}

const live = document.getElementById("live");
let timer = 0;

async function refresh() {
  clearTimeout(timer);
  let pause = CALM;
  try {
    const response = await fetch(live.dataset.live, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (response.status === 401) {
      location.reload();
      return;
    }
    if (!response.ok) throw new Error(String(response.status));
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
    localTimes(fresh);
    const before = states(live);
    const changed = [...states(fresh)].filter(([id, state]) => before.get(id) !== state);
    morph(live, fresh);
    if (changed.length) {
      document.getElementById("announcer").textContent = changed.map(([, state]) => state).join(". ");
    }
    document.getElementById("offline").hidden = true;
    if (live.hasAttribute("data-busy")) pause = BUSY;
  } catch {
    document.getElementById("offline").hidden = false;
    pause = BUSY;
  }
  if (!document.hidden) timer = setTimeout(refresh, pause);
}

localTimes(document);
if (live) {
  timer = setTimeout(refresh, live.hasAttribute("data-busy") ? BUSY : CALM);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) refresh();
  });
}
