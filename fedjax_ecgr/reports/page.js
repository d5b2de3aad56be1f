"use strict";

// A click on a heading sorts its table, a second one the other way; what has no value stays last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = heading.closest("table");
    const column = heading.cellIndex;
    const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const number = row => parseFloat(row.cells[column].dataset.value);
    const compare = heading.classList.contains("text")
      ? (a, b) => sign * a.cells[column].textContent.localeCompare(
          b.cells[column].textContent, "en", { numeric: true })
      : (a, b) => isNaN(number(a)) - isNaN(number(b)) || sign * (number(a) - number(b)) || 0;
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  });
}

// The pointer, or an arrow key, picks a round; a box says every method's accuracy in it.
const plots = JSON.parse(document.getElementById("curves").textContent);
document.querySelectorAll("figure").forEach((figure, index) => {
  const { left, width, first, last, top, height, low, high, methods } = plots[index];
  const svg = figure.querySelector("svg.plot");
  const cursor = svg.querySelector(".cursor");
  const told = figure.querySelector(".told");
  const dots = svg.querySelectorAll(".dot");
  const rounds = [...new Set(methods.flatMap(method => method.rounds))].sort((a, b) => a - b);
  const across = round => left + width * (last > first ? (round - first) / (last - first) : 0.5);
  const up = value => top + height * (1 - (value - low) / (high - low));
  let at = null;

  const hide = () => {
    at = null;
    told.hidden = true;
    for (const mark of [cursor, ...dots]) mark.style.visibility = "hidden";
  };
  const show = wanted => {
    at = Math.min(Math.max(wanted, 0), rounds.length - 1);
    const round = rounds[at];
    const x = across(round);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.visibility = "visible";
    const found = [];
    methods.forEach((method, number) => {
      const point = method.rounds.indexOf(round);
      dots[number].style.visibility = point < 0 ? "hidden" : "visible";
      if (point < 0) return;
      dots[number].setAttribute("cx", x);
      dots[number].setAttribute("cy", up(method.mean[point]));
      found.push({ method, number, point });
    });
    found.sort((a, b) => b.method.mean[b.point] - a.method.mean[a.point]);
    const table = document.createElement("table");
    for (const { method, number, point } of found) {
      const row = table.insertRow();
      row.insertCell().append(document.querySelector(
        `ul.legend [data-method="${method.number}"] .swatch`).cloneNode(true));
      const label = row.insertCell();
      label.className = "text";
      label.textContent = method.label;
      const value = row.insertCell();
      value.textContent = method.mean[point].toFixed(2) + (method.low
        ? ` [${method.low[point].toFixed(2)}, ${method.high[point].toFixed(2)}]` : "");
    }
    const heading = document.createElement("div");
    heading.textContent = `round ${round}`;
    told.replaceChildren(heading, table);
    told.hidden = false;
    // beside the line, on the side where there is room
    const frame = figure.getBoundingClientRect();
    const pixels = frame.width * x / svg.viewBox.baseVal.width;
    const room = document.documentElement.clientWidth - frame.left - told.offsetWidth - 4;
    const beside = pixels + 12 <= room ? pixels + 12 : pixels - told.offsetWidth - 12;
    told.style.left = `${Math.max(beside, 4 - frame.left)}px`;
  };

  if (!rounds.length) return;
  svg.addEventListener("pointermove", event => {
    const place = new DOMPoint(event.clientX, event.clientY);
    const { x } = place.matrixTransform(svg.getScreenCTM().inverse());
    const distance = round => Math.abs(across(round) - x);
    show(rounds.reduce((best, round, i) =>
      distance(round) < distance(rounds[best]) ? i : best, 0));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) show(at === null ? rounds.length - 1 : at + step);
    if (event.key === "Escape") hide();
  });
});
