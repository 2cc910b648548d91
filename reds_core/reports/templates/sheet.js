// Enlarges a picture of the contact sheet beside its seed's own, with what differs between them and the trajectory that it lies on.
// Everything comes from the page itself: pictures and titles are those of its cells.
const dialog = document.querySelector("dialog");
const make = (tag, words, ...children) => {
  const made = document.createElement(tag);
  made.textContent = words;
  made.append(...children);
  return made;
};
const picture = (cell) => {
  const image = document.createElement("img");
  image.src = cell.querySelector("img").src;
  image.alt = "";
  return image;
};
const panel = (words, ...images) => {
  const frame = make("div", "", ...images);
  frame.className = images.length > 1 ? "both" : "one";
  return make("figure", "", frame, make("figcaption", words));
};

let shown = null;
const show = (cell) => {
  shown = cell;
  const card = cell.closest(".seed"), row = cell.closest(".row");
  const source = card.querySelector(".source"), own = card.querySelector(".own");
  const panels = [];
  if (source) panels.push(panel("the image", picture(source)));
  if (own) panels.push(panel(source ? "its reconstruction" : "the seed", picture(own)));
  const from = cell === own ? source : own;
  if (row) panels.push(panel(row.querySelector("span").textContent + ", " + cell.querySelector("img").title.split(":")[0], picture(cell)));
  if (from && own && cell !== source) panels.push(panel("what differs, 3 times as bright", picture(from), picture(cell)));
  const large = make("div", "", ...panels), strip = make("div", ""), close = make("button", "Close");
  large.className = "large";
  strip.className = "strip";
  for (const other of row ? [own, ...row.querySelectorAll("button")] : []) {
    if (!other) continue;
    const button = make("button", "", picture(other));
    button.classList.toggle("no", other.classList.contains("no"));
    button.title = other.querySelector("img").title;
    button.ariaCurrent = other === cell ? "true" : "false";
    if (other === own) button.disabled = true; else button.onclick = () => show(other);
    strip.append(button);
  }
  close.onclick = () => dialog.close();
  const about = make("p", cell.querySelector("img").title), hint = make("p", row ? "Arrow keys: along the trajectory, and to the next one." : "");
  hint.className = "soft";
  const who = card.querySelector("b + span").textContent.replace(/: \d+ of \d+ accepted$/, "");
  const name = card.querySelector("b").textContent + ", " + who;
  dialog.replaceChildren(make("header", "", make("b", name), close), large, about, strip, hint);
  if (!dialog.open) dialog.showModal();
  close.focus();
};

document.addEventListener("click", (event) => {
  const cell = event.target.closest(".seed button");
  if (cell) show(cell);
  if (event.target === dialog) dialog.close();
});
dialog?.addEventListener("close", () => shown?.focus());
dialog?.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], turn = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const row = shown?.closest(".row");
  if (!row || !(step || turn)) return;
  event.preventDefault();
  const cells = [...row.querySelectorAll("button")], at = cells.indexOf(shown);
  const rows = [...row.parentElement.children].filter((other) => other.querySelector("button"));
  const there = step ? cells : [...(rows[rows.indexOf(row) + turn]?.querySelectorAll("button") ?? [])];
  const next = there[step ? at + step : Math.min(at, there.length - 1)];
  if (next) show(next);
});
