"use strict";
// One index, one page. Text is only ever set as text; media are asked for by the number of a row.
const $ = (id) => document.getElementById(id);
const RECORD_SECONDS = 10;
// The report's ten colours, of page.css; a second round has another shape.
const NUM_COLOURS = 10;
const GREY = "#7d8894";
const state = { about: null, map: null, wanted: null, at: -1, asked: 0, listings: 0, refusals: 0, next: {}, drawn: [] };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

async function ask(path, options = {}) {
  const response = await fetch(path, options);
  let answer = {};
  try { answer = await response.json(); } catch { answer = { error: `answer ${response.status}` }; }
  if (!response.ok) throw new Error(answer.error || `answer ${response.status}`);
  return answer;
}

function complain(error) {
  const text = error ? (error.message || String(error)) : "";
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

const span = (clip) => clip.num_windows > 1 ? `${clip.start.toFixed(1)} to ${clip.end.toFixed(1)} s` : "";
const shortName = (clip) => clip.clip.split("/").slice(clip.dataset ? -1 : -2).join("/");
const title = (clip) => clip.labels.join(", ") || shortName(clip);

// A clip as a card.
function card(clip, tag = "li") {
  const look = make("div", { className: "look" });
  showPicture(look, clip);
  const words = make("div", { className: "words" });
  if (clip.score !== undefined) {
    words.append(make("div", { className: "score" },
      make("meter", { min: 0, max: 1, value: Math.max(0, clip.score), ariaLabel: "score" }), clip.score.toFixed(3)));
  }
  words.append(make("strong", {}, title(clip)));
  const details = [shortName(clip), clip.split, span(clip)].filter(Boolean).join(" · ");
  words.append(make("span", { className: "name", title: clip.clip }, details));
  const buttons = make("div", { className: "buttons" });
  if (clip.media === "video" || clip.media === "audio") {
    buttons.append(make("button", { type: "button", className: "play", onclick: (event) => play(event.target, look, clip), ariaLabel: `Play ${title(clip)}, ${shortName(clip)}` }, "Play"));
  }
  if (clip.row !== undefined && clip.row !== state.wanted?.row) {
    buttons.append(make("button", { type: "button", className: "like", onclick: () => searchByRow(clip), ariaLabel: `Search by ${title(clip)}, ${shortName(clip)}` }, "Search"));
  }
  words.append(buttons);
  const parts = [look];
  if (clip.has.includes("audio")) {
    parts.push(make("img", { className: "sound", loading: "lazy", alt: "spectrogram", src: clip.sound || `preview/${clip.row}/audio.jpg` }));
  }
  return make(tag, { className: "card" }, ...parts, words);
}

function showPicture(look, clip) {
  const source = clip.has.includes("video") ? clip.picture || `preview/${clip.row}/video.jpg` : "";
  look.replaceChildren(source
    ? make("img", { loading: "lazy", alt: title(clip), src: source })
    : make("span", { className: "none" }, "sound alone"));
}

function play(button, look, clip) {
  if (look.querySelector("video")) {
    showPicture(look, clip);
    button.textContent = "Play";
    return;
  }
  document.querySelectorAll("video").forEach((other) => other.pause());
  const part = clip.end > 0 ? `#t=${clip.start},${clip.end}` : "";
  const player = make("video", { controls: true, autoplay: true, playsInline: true, src: (clip.url || `media/${clip.row}`) + part });
  if (clip.has.includes("video") && clip.media === "audio") player.poster = clip.picture || `preview/${clip.row}/video.jpg`;
  player.addEventListener("error", () => {
    look.replaceChildren(make("span", { className: "none" }, "this browser cannot play it"));
  });
  look.replaceChildren(player);
  button.textContent = "Close";
}

// What is looked for.
function choose(clip) {
  if (state.wanted?.url) URL.revokeObjectURL(state.wanted.url);
  state.wanted = clip;
  const shown = card(clip, "div");
  shown.querySelector(".buttons").append(make("button", { type: "button", className: "primary", onclick: search }, "Find nearest"));
  $("wanted").replaceChildren(shown);
  for (const input of document.querySelectorAll("[name=by]")) {
    const by = input.value.split(" ")[0];
    input.disabled = by !== "both" && !clip.has.includes(by);
    if (input.disabled && input.checked) document.querySelector("[value='both other']").checked = true;
  }
}

function searchByRow(clip) {
  choose(clip);
  return search();
}

async function search() {
  if (!state.wanted) return;
  const number = ++state.asked;
  const [by, against] = document.querySelector("[name=by]:checked").value.split(" ");
  const question = new URLSearchParams({ by, against, label: $("label").value, split: $("split").value });
  if (state.wanted.query) question.set("query", state.wanted.query);
  else question.set("row", state.wanted.row);
  complain("");
  show("results");
  try {
    const { clips } = await ask(`api/search?${question}`);
    if (number !== state.asked) return;
    $("results").replaceChildren(...clips.map((clip) => card(clip)));
    $("results-said").textContent = clips.length ? `The ${clips.length} nearest clips, best first.` : "No clip fits these filters.";
    if (innerWidth < 740) $("shown").scrollIntoView();
  } catch (error) { if (number === state.asked) complain(error); }
}

async function upload(blob, name) {
  complain("");
  if (blob.size > state.about.max_upload_bytes) {
    complain(`${name}: larger than ${state.about.max_upload_bytes / 2 ** 20} MiB`);
    return;
  }
  $("wanted").replaceChildren(make("p", { className: "quiet" }, `Looking at ${name} …`));
  try {
    const found = await ask(`api/query?${new URLSearchParams({ name })}`, {
      method: "POST", body: blob, headers: { "X-AV-Pipeline": "1", "Content-Type": "application/octet-stream" } });
    const media = found.has.includes("audio") || blob.type.startsWith("video") ? "video" : "";
    choose({ ...found, clip: name, labels: [], split: "", num_windows: 1, start: 0, end: 0, media, url: URL.createObjectURL(blob) });
    await search();
  } catch (error) {
    complain(error);
    if (state.wanted) choose(state.wanted);
    else $("wanted").replaceChildren(make("p", { className: "quiet" }, "Nothing is looked for."));
  }
}

let recorder = null;
async function record() {
  if (recorder) { recorder.stop(); return; }
  complain("");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      const type = recorder.mimeType;
      recorder = null;
      clearInterval(timer);
      $("record").textContent = "Record";
      $("record").classList.remove("on");
      upload(new Blob(parts, { type }), "recording");
    };
    recorder.start();
    let left = RECORD_SECONDS;
    const tell = () => { $("record").textContent = `Stop (${left} s)`; };
    const timer = setInterval(() => { left -= 1; tell(); if (left <= 0) recorder?.stop(); }, 1000);
    $("record").classList.add("on");
    tell();
  } catch (error) {
    recorder = null;
    complain(new Error(`No recording: ${error.message}. A browser gives the microphone to localhost and https alone.`));
  }
}

// Lists, a page at a time: ``next`` is the row that the next page begins with.
async function list(more = false) {
  const number = ++state.listings;
  const question = { label: $("label").value, split: $("split").value, text: $("text").value };
  try {
    const clips = await page(question, "clips", more, () => number === state.listings);
    if (!clips) return;
    const cards = clips.map((clip) => card(clip));
    if (more) $("clips").append(...cards);
    else $("clips").replaceChildren(...cards);
  } catch (error) { complain(error); }
}

async function page(question, name, more, isWanted) {
  const first = more ? state.next[name] : 0;
  const { clips, next } = await ask(`api/clips?${new URLSearchParams({ ...question, first })}`);
  if (!isWanted()) return null;
  state.next[name] = next;
  $(`more-${name}`).hidden = next === null;
  return clips;
}

async function listRefused(more = false) {
  const number = ++state.refusals;
  const clips = await page({ refused: 1 }, "refused", more, () => number === state.refusals);
  if (!clips) return;
  const rows = clips.map((clip) => make("tr", {}, ...[clip.clip, clip.reason, clip.detail].map((text) => make("td", {}, text))));
  if (more) $("refused").tBodies[0].append(...rows);
  else $("refused").tBodies[0].replaceChildren(...rows);
  const reasons = Object.entries(state.about.reasons).map(([reason, count]) => `${reason} ${count}`).join(", ");
  $("refused-said").textContent = reasons ? `Files that could not be looked at: ${reasons}.` : "No file was refused.";
  $("refused").hidden = !$("refused").tBodies[0].rows.length;
}

// Views.
function show(name) {
  for (const tab of $("tabs").children) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (name === "map") draw();
  if (name === "clips" && !$("clips").children.length) list();
  if (name === "refused") listRefused().catch(complain);
}

function tabKeys(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...$("tabs").children];
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  show(next.id.slice(4));
  next.focus();
}

// The map.
function draw() {
  const canvas = $("map");
  const { width, height } = canvas.getBoundingClientRect();
  if (!state.map || !width) return;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const label = state.about.labels.indexOf($("label").value);
  const split = state.about.splits.indexOf($("split").value);
  const edge = 14;
  const colours = palette();
  const size = state.map.rows.length > 3000 ? 2 : 4.5;
  state.drawn = [];
  state.map.rows.forEach((row, k) => {
    if ((label >= 0 && state.map.labels[k] !== label) || (split >= 0 && state.map.splits[k] !== split)) return;
    const x = edge + (state.map.x[k] + 1) / 2 * (width - 2 * edge);
    const y = edge + (1 - (state.map.y[k] + 1) / 2) * (height - 2 * edge);
    state.drawn.push({ k, row, x, y });
    mark(pen, x, y, size, state.map.labels[k], colours);
  });
  const chosen = state.drawn.find((point) => point.k === state.at);
  if (chosen) {
    pen.lineWidth = 3;
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.beginPath();
    pen.arc(chosen.x, chosen.y, size + 5, 0, 7);
    pen.stroke();
  }
}

function palette() {
  const style = getComputedStyle(document.body);
  return Array.from({ length: NUM_COLOURS }, (_, k) => style.getPropertyValue(`--c${k}`));
}

function mark(pen, x, y, size, label, colours) {
  pen.fillStyle = label < 0 ? GREY : colours[label % NUM_COLOURS];
  pen.beginPath();
  const shape = label < 0 ? 0 : Math.floor(label / NUM_COLOURS) % 3;
  if (shape === 0) pen.arc(x, y, size, 0, 7);
  else if (shape === 1) pen.rect(x - size, y - size, 2 * size, 2 * size);
  else { pen.moveTo(x, y - size * 1.3); pen.lineTo(x + size * 1.2, y + size); pen.lineTo(x - size * 1.2, y + size); }
  pen.fill();
}

function legend() {
  const many = state.about.labels.length > 3 * NUM_COLOURS;
  const shown = many ? [] : state.about.labels;
  const colours = palette();
  $("legend").replaceChildren(...shown.map((name, label) => {
    const canvas = make("canvas", { width: 16, height: 16, ariaHidden: "true" });
    mark(canvas.getContext("2d"), 8, 8, 5, label, colours);
    return make("li", {}, canvas, name);
  }));
}

function nearestPoint(x, y, reach) {
  let best = null;
  let distance = reach ** 2;
  for (const point of state.drawn) {
    const d = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (d < distance) { best = point; distance = d; }
  }
  return best;
}

function pointAt(event) {
  const box = $("map").getBoundingClientRect();
  return nearestPoint(event.clientX - box.left, event.clientY - box.top, event.pointerType === "touch" ? 30 : 14);
}

const known = new Map();
async function clipOf(row) {
  if (!known.has(row)) known.set(row, ask(`api/clip/${row}`));
  return known.get(row);
}

async function hover(point) {
  const at = point ? point.k : -1;
  if (at === state.at) return;
  state.at = at;
  draw();
  if (!point) { $("tip").hidden = true; return; }
  const clip = await clipOf(point.row);
  if (state.at !== at) return;
  const parts = [];
  if (clip.has.includes("video")) parts.push(make("img", { alt: "", src: `preview/${clip.row}/video.jpg` }));
  if (clip.has.includes("audio")) parts.push(make("img", { alt: "", className: "sound", src: `preview/${clip.row}/audio.jpg` }));
  const words = `${title(clip)} · ${shortName(clip)}`;
  $("tip").replaceChildren(...parts, make("p", {}, words));
  $("map-said").textContent = words;
  const box = $("map").getBoundingClientRect();
  $("tip").style.left = `${Math.min(Math.max(0, point.x + 14), Math.max(0, box.width - 165))}px`;
  $("tip").style.top = `${point.y > box.height / 2 ? Math.max(0, point.y - 190) : point.y + 14}px`;
  $("tip").hidden = false;
}

async function pick(point) {
  if (!point) return;
  const clip = await clipOf(point.row);
  $("tip").hidden = true;
  choose(clip);
  $("wanted").querySelector(".play")?.click();
  if (innerWidth < 740) $("ask").scrollIntoView();
}

function mapKeys(event) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    pick(state.drawn.find((point) => point.k === state.at)).then(() => { if (event.key === "Enter") search(); }).catch(complain);
    return;
  }
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || !state.drawn.length) return;
  event.preventDefault();
  const from = state.drawn.find((point) => point.k === state.at);
  if (!from) { hover(state.drawn[0]).catch(complain); return; }
  let best = null;
  let least = Infinity;
  for (const point of state.drawn) {
    const ahead = (point.x - from.x) * way[0] + (point.y - from.y) * way[1];
    const aside = Math.abs((point.x - from.x) * way[1]) + Math.abs((point.y - from.y) * way[0]);
    if (ahead > .5 && ahead + 2 * aside < least) { best = point; least = ahead + 2 * aside; }
  }
  if (best) hover(best).catch(complain);
}

function filtered() {
  draw();
  list();
  if (state.wanted && !$("panel-results").hidden) search();
}

async function start() {
  state.about = await ask("api/index");
  const { about } = state;
  const refused = about.num_refused ? `, ${about.num_refused} refused` : "";
  $("about").textContent = `${about.num_clips.toLocaleString()} clips${refused} · ${about.name}`;
  for (const name of ["label", "split"]) {
    $(name).append(...about[`${name}s`].map((value) => make("option", { value }, value)));
    $(name).onchange = filtered;
    $(name).closest("label").hidden = !about[`${name}s`].length;
  }
  $("tab-refused").hidden = !about.num_refused;
  legend();
  state.map = await ask("api/map");
  show("map");
}

$("choose").onclick = () => $("file").click();
$("file").onchange = () => { const [file] = $("file").files; $("file").value = ""; if (file) upload(file, file.name); };
$("record").onclick = record;
for (const input of document.querySelectorAll("[name=by]")) input.onchange = search;
for (const tab of $("tabs").children) tab.onclick = () => show(tab.id.slice(4));
$("tabs").onkeydown = tabKeys;
let typing = 0;
$("text").oninput = () => { clearTimeout(typing); typing = setTimeout(() => list(), 250); };
$("more-clips").onclick = () => list(true);
$("more-refused").onclick = () => listRefused(true).catch(complain);
const mapCanvas = $("map");
mapCanvas.onpointermove = (event) => hover(pointAt(event)).catch(complain);
mapCanvas.onpointerleave = () => hover(null);
mapCanvas.onclick = (event) => pick(pointAt(event)).catch(complain);
mapCanvas.onkeydown = mapKeys;
addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { draw(); legend(); });
const drop = $("drop");
drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) upload(file, file.name);
};
start().catch(complain);
