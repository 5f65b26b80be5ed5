// What a pointer finds in a chart, a chart as a file, and links into parts that are closed.
"use strict";
const SVG = "http://www.w3.org/2000/svg", XLINK = "http://www.w3.org/1999/xlink";
const NEAR = 20; // units of a drawing
const SIDE = 96; // pixels of a clip's picture, as in page.css
const tip = document.getElementById("tip");
let hideShown = () => {};  // of the chart that the tip belongs to

for (const figure of document.querySelectorAll("figure[id]")) {
  const data = figure.querySelector("script");
  if (data) listen(figure.querySelector("[role=img]"), JSON.parse(data.textContent));
  figure.querySelector("button.save").onclick = () => save(figure);
}

function listen(area, { scale: [x0, dx, y0, dy], x_label, series, texts, sheet }) {
  const svg = area.querySelector("svg");
  const points = series.flatMap(({ name, colour, points }) => points.map(([x, y, text]) =>
    ({ name, colour, x, y, text, left: x0 + dx * x, top: y0 + dy * y })));
  let marks = null, at = -1;

  function near(left, top) {
    let best = -1, least = texts ? NEAR : Infinity;
    points.forEach((point, index) => {
      const far = texts ? Math.hypot(point.left - left, point.top - top) : Math.abs(point.left - left);
      if (far < least) [best, least] = [index, far];
    });
    return best;
  }

  function show(index) {
    hideShown();
    if (index < 0) return;
    [at, hideShown] = [index, hide];
    // Of curves, every one that has a point where this one has it.
    const found = texts ? [points[at]] : series.map(({ name }) => points.find((point) =>
      point.name === name && Math.abs(point.left - points[at].left) < 1)).filter(Boolean);
    marks = svg.appendChild(document.createElementNS(SVG, "g"));
    for (const point of found) {
      const ring = marks.appendChild(document.createElementNS(SVG, "circle"));
      ring.setAttribute("cx", point.left);
      ring.setAttribute("cy", point.top);
      ring.setAttribute("r", 5);
      ring.setAttribute("style", `fill: none; stroke-width: 2; stroke: ${point.colour}`);
    }
    tip.replaceChildren(...(texts ? ofThing(points[at]) : ofCurves(found)));
    tip.hidden = false;
    const ring = marks.firstChild.getBoundingClientRect(), box = tip.getBoundingClientRect();
    const left = ring.right + 8 + box.width < innerWidth ? ring.right + 8 : ring.left - 8 - box.width;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(ring.top, innerHeight - box.height - 4))}px`;
  }

  function ofThing({ name, colour, text }) {
    const parts = [element("strong", texts[text][0]), value(colour, name, texts[text][1])];
    if (!sheet) return parts;
    const picture = element("i", "");
    const [column, row] = [text % sheet.columns, Math.floor(text / sheet.columns)];
    picture.style.background = `url("${sheet.data_uri}") ${-column * SIDE}px ${-row * SIDE}px / ${sheet.columns * SIDE}px`;
    return [picture, ...parts];
  }

  function ofCurves(found) {
    const where = `${x_label} ${short(found[0].x)}`;
    return [element("strong", where), ...found.map(({ colour, name, y }) => value(colour, name, short(y)))];
  }

  function hide() {
    marks?.remove();
    tip.hidden = true;
    [marks, at] = [null, -1];
  }

  area.onpointermove = area.onpointerdown = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    show(near(place.x, place.y));
  };
  area.onpointerleave = (event) => event.pointerType === "mouse" && hide();
  area.onblur = hide;
  area.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show((at + step + points.length) % points.length);
  };
}

// A finger has no way to leave a chart but to touch something else.
addEventListener("pointerdown", (event) => event.target.closest("[role=img]") || hideShown());

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function value(colour, name, text) {
  const line = element("span", ""), dot = element("b", "");
  dot.style.background = colour;
  line.append(dot, `${name}: ${text}`);
  return line;
}

function short(number) {
  return String(+number.toPrecision(4));
}

// A file has no page around it: colours and fonts are written out, the light theme's.
function save(figure) {
  const shown = figure.querySelector("svg"), copy = shown.cloneNode(true);
  copy.setAttribute("xmlns", SVG);
  copy.removeAttribute("style");
  for (const use of copy.querySelectorAll("use")) use.setAttributeNS(XLINK, "xlink:href", use.getAttribute("href"));
  document.documentElement.classList.add("light");
  const style = getComputedStyle(shown), written = new XMLSerializer().serializeToString(copy)
    .replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim().replaceAll('"', "'"))
    .replaceAll("currentColor", style.color);
  document.documentElement.classList.remove("light");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([written], { type: "image/svg+xml" }));
  link.download = `${figure.id}.svg`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function reveal() {
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = wanted; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  wanted?.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
