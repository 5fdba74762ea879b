// Shows the values below the pointer, and hides a line when its name in the legend is clicked.
"use strict";
for (const plot of document.querySelectorAll(".plot")) {
  const lines = JSON.parse(plot.dataset.hover);
  const groups = lines.map((_, index) => plot.querySelector(`[data-line="${index}"]`));
  const buttons = plot.closest(".chart").querySelectorAll(".legend button");
  buttons.forEach((button, index) => button.addEventListener("click", () => {
    groups[index].classList.toggle("off", button.classList.toggle("off"));
  }));
  const cursor = Object.assign(document.createElement("div"), { className: "cursor", hidden: true });
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  plot.append(cursor, tip);
  const hide = () => { cursor.hidden = tip.hidden = true; };
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * 1000;
    const nearest = (line) => line.p.reduce((best, p, index) => Math.abs(p - at) < Math.abs(line.p[best] - at) ? index : best, 0);
    const shown = lines.filter((line, index) => line.p.length > 0 && !buttons[index].classList.contains("off"));
    if (shown.length === 0) return hide();
    const first = nearest(shown[0]);
    tip.textContent = shown[0].x[first];
    for (const line of shown) {
      const row = document.createElement("div");
      const name = Object.assign(document.createElement("b"), { className: "c" + line.c, textContent: line.n });
      row.append(name, " " + line.y[nearest(line)]);
      tip.append(row);
    }
    cursor.hidden = tip.hidden = false;
    const position = shown[0].p[first] / 10;
    cursor.style.left = position + "%";
    tip.style.left = position < 50 ? `calc(${position}% + 10px)` : "auto";
    tip.style.right = position < 50 ? "auto" : `calc(${100 - position}% + 10px)`;
  });
}
