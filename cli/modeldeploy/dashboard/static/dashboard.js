// The one script of the pages: theme, filter, live updates, the confirmation, the form to try a prediction.
// HTML comes from our own server alone, which escapes everything that a cluster says.
"use strict";

const root = document.documentElement;
root.classList.add("scripted");
const theme = {
  load() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set(name) { root.dataset.theme = name; try { localStorage.setItem("theme", name); } catch { /* a private window */ } },
  toggle() {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    theme.set(isDark ? "light" : "dark");
  },
};
if (theme.load()) root.dataset.theme = theme.load();

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- ages: 40s, 5m, 3h, 2d

function age(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(Math.max(seconds, 0) / size)}${unit}`;
}

function renewAges(within = document) {
  for (const time of all("time[data-age]", within)) {
    const text = age((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- the stream

function listen(handlers) {
  const state = find("[data-live]");
  const show = (name, text) => { state.dataset.state = name; if (state.textContent !== text) state.textContent = text; };
  const source = new EventSource(document.body.dataset.stream);
  source.onopen = () => show("on", "Live");
  source.onerror = () => show("off", source.readyState === EventSource.CLOSED ? "Not connected: reload" : "Reconnecting");
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content.firstElementChild;
}

const FOCUSABLE = "a[href], button, summary, input, select, textarea, [tabindex]";
// What an element is recognised by after its part was drawn again.
const identity = (one) => [one.tagName, one.dataset.id || one.id || one.getAttribute("href") || one.textContent.trim()].join(" ");

const showNotices = (html) => { find("#notices").innerHTML = html; };

// --- the list

function listPage() {
  const rows = find("#rows");
  const form = find(".filters");
  const byKey = new Map(all(".row", rows).map((row) => [row.dataset.key, row]));

  function takes(row, chosen) {
    const { name, namespace, phase, label } = chosen;
    if (name && !row.dataset.name.toLowerCase().includes(name)) return false;
    if (namespace && row.dataset.namespace !== namespace) return false;
    if (phase && row.dataset.phase !== phase && !(phase === "Attention" && row.classList.contains("attention"))) return false;
    if (!label) return true;
    const labels = JSON.parse(row.dataset.labels);
    const [key, ...value] = label.split("=");
    return key in labels && (!value.length || labels[key] === value.join("="));
  }

  function chosen() {
    const data = new FormData(form);
    const text = (name) => String(data.get(name) ?? "").trim();
    return { name: text("name").toLowerCase(), namespace: text("namespace"), phase: text("phase"), label: text("label") };
  }

  function filter() {
    const by = chosen();
    let shown = 0;
    for (const row of byKey.values()) {
      row.hidden = !takes(row, by);
      shown += !row.hidden;
    }
    count(shown);
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    history.replaceState(null, "", query.size ? `/?${query}` : "/");
  }

  function count(shown) {
    const text = `${shown} of ${byKey.size} shown`;
    const output = find("[data-shown]");
    if (output.textContent !== text) output.textContent = text;
    find("#empty").hidden = byKey.size > 0;
  }

  function offer(namespace) {
    const select = form.elements.namespace;
    if ([...select.options].some((option) => option.value === namespace)) return;
    select.add(new Option(namespace, namespace));
  }

  function place(row) {
    const sort = row.dataset.sort;
    // Most rows stay where they are.
    const before = row.previousElementSibling, after = row.nextElementSibling;
    if (row.parentNode === rows && (!before || before.dataset.sort < sort) && (!after || after.dataset.sort > sort)) return;
    const others = rows.children;
    let low = 0, high = others.length;
    if (row.parentNode) { row.remove(); high = others.length; }
    while (low < high) {
      const middle = (low + high) >> 1;
      if (others[middle].dataset.sort < sort) low = middle + 1; else high = middle;
    }
    rows.insertBefore(row, others[low] ?? null);
  }

  function put({ key, html }) {
    const old = byKey.get(key);
    if (!html) { old?.remove(); byKey.delete(key); return; }
    const row = element(html);
    row.hidden = !takes(row, chosen());
    renewAges(row);
    const had = old?.contains(document.activeElement);
    if (old) old.replaceWith(row);
    byKey.set(key, row);
    offer(row.dataset.namespace);
    place(row);
    if (had) find("a", row)?.focus();
  }

  const recount = () => count([...byKey.values()].filter((row) => !row.hidden).length);
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => { event.preventDefault(); filter(); });
  listen({
    keys(keys) {
      const there = new Set(keys);
      for (const key of [...byKey.keys()]) if (!there.has(key)) put({ key, html: "" });
      recount();
    },
    rows(changed) { changed.forEach(put); recount(); },
    totals(html) { find("#totals").innerHTML = html; },
    notices: showNotices,
  });
}

// --- one model

function modelPage() {
  const drawn = new Map();

  function put(name, html) {
    const part = find(`[data-part="${name}"]`);
    if (!part || drawn.get(name) === html) return;
    drawn.set(name, html);
    const open = all("details[open]", part).map((one) => one.id);
    const focused = part.contains(document.activeElement) ? identity(document.activeElement) : null;
    part.innerHTML = html;
    for (const id of open) { const one = find(`#${CSS.escape(id)}`, part); if (one) one.open = true; }
    if (focused) refocus(part, focused);
    renewAges(part);
  }

  // Where the element is gone the part takes the focus: otherwise the next Tab would begin at the top of the page.
  function refocus(part, focused) {
    const same = all(FOCUSABLE, part).find((one) => identity(one) === focused);
    if (!same) part.tabIndex = -1;
    (same ?? part).focus({ preventScroll: true });
  }

  listen({
    parts(parts) { for (const [name, html] of Object.entries(parts)) put(name, html); },
    gone() { find("#gone").hidden = false; },
    notices: showNotices,
  });
  confirmations();
  document.addEventListener("click", (event) => { if (event.target.closest("[data-open-form]")) openForm(); });
}

async function send(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json", accept: "application/json" }, body: JSON.stringify(body) });
  } catch {
    return { ok: false, message: "The dashboard does not answer. Is it still running?" };
  }
  const isPage = answer.ok && answer.headers.get("content-type")?.startsWith("text/html");
  const answered = await (isPage ? answer.text().then((html) => ({ html })) : answer.json())
    .catch(() => ({ message: `The dashboard answers with ${answer.status}.` }));
  return { ok: answer.ok, ...answered };
}

function confirmations() {
  const dialog = find("#confirm"), go = find("#confirm-do"), cancel = find("#confirm-cancel"), result = find("#confirm-result");
  let asked = null;

  function tell(text, tone) { result.textContent = text; result.className = tone; }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-verb]");
    if (!button) return;
    asked = { ...button.dataset };
    find("#confirm-title").textContent = asked.title;
    find("#confirm-text").textContent = asked.consequence;
    go.textContent = asked.label;
    go.className = "danger" in asked ? "danger solid" : "primary";
    go.hidden = false;
    go.disabled = false;
    cancel.textContent = "Cancel";
    tell("", "");
    dialog.showModal();
    cancel.focus();
  });
  cancel.addEventListener("click", () => dialog.close());
  // The button that opened it may have been drawn again meanwhile, which the browser does not know.
  dialog.addEventListener("close", () => find(`[data-id="${CSS.escape(asked.id)}"]`)?.focus());
  go.addEventListener("click", async () => {
    go.disabled = true;
    tell("Waiting for the operator's answer ...", "");
    const base = document.body.dataset.base;
    const { ok, message } = await send(`${base}/actions/${asked.verb}`, { state: asked.state, revision: asked.revision });
    tell(message, ok ? "good" : "bad");
    go.hidden = true;
    cancel.textContent = "Close";
    cancel.focus();
  });
}

// --- the form to try a prediction

// The API key of this page's model: here and in its field, and nowhere that outlives the page.
let apiKey = "";

function keepKey(within) {
  const field = find("[data-api-key]", within);
  if (field) apiKey = field.value;
}

async function openForm() {
  const place = find("#prediction"), button = find("button", place);
  button.disabled = true;
  const { ok, html, message } = await send(`${document.body.dataset.base}/form`, { api_key: apiKey });
  if (!ok) {
    all(".notice", place).forEach((one) => one.remove());
    place.append(notice(message));
    button.disabled = false;
    return;
  }
  place.innerHTML = html;
  const form = find("form", place), isKeyForm = "keyForm" in form.dataset, field = find("[data-api-key]", form);
  if (field) field.value = apiKey;
  (isKeyForm || !apiKey ? find("input, select, textarea", form) : find("[data-field], [data-body]", form))?.focus();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(form);
    if (isKeyForm) openForm(); else ask(form, event.submitter?.value || "prediction");
  });
}

function notice(text) {
  const told = document.createElement("p");
  told.className = "notice bad";
  told.setAttribute("role", "alert");
  told.textContent = text;
  return told;
}

function json(answer) {
  const text = document.createElement("pre");
  text.tabIndex = 0;
  text.textContent = JSON.stringify(answer, null, 2);
  return text;
}

async function ask(form, what) {
  const values = Object.fromEntries(all("[data-field]", form).map((one) => [one.dataset.field, one.value]));
  const request = find("[data-json]", form).open ? { json_text: find("[data-body]", form).value } : { values };
  const buttons = all("[type=submit]", form), output = find(".answer", form);
  buttons.forEach((one) => { one.disabled = true; });
  const { ok, message, status, answer, html } = await send(`${document.body.dataset.base}/${what}`, { ...request, api_key: apiKey });
  buttons.forEach((one) => { one.disabled = false; });
  output.replaceChildren();
  output.hidden = false;
  if (!ok) { output.append(notice(message)); return; }
  if (html) {
    const whole = document.createElement("details"), summary = document.createElement("summary");
    summary.textContent = "Answer as JSON";
    whole.append(summary, json(answer));
    output.innerHTML = html;
    output.append(whole);
    return;
  }
  const badge = document.createElement("span");
  badge.className = `badge ${status < 400 ? "good" : "bad"}`;
  badge.textContent = status < 400 ? "Answer" : `Refused with ${status}`;
  output.append(badge, json(answer));
}

document.addEventListener("DOMContentLoaded", () => {
  find("[data-theme-toggle]").addEventListener("click", theme.toggle);
  renewAges();
  setInterval(renewAges, 10_000);
  const pages = { list: listPage, model: modelPage };
  pages[document.body.dataset.page]?.();
});
