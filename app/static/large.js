// Pictures that open large: <a data-large="group" data-caption="…" href="picture"><img></a>. Arrow keys walk through the
// group, Escape or a click closes. Besides: <button data-copy="text" data-copied="Copied"> copies, and an element with
// data-address puts that address into the bar, so that a reload comes back to what was chosen; data-show="id" brings what
// was chosen into view where it is not.

let dialog, image, caption, links = [], at = 0;

function build() {
  dialog = document.createElement("dialog");
  dialog.className = "p-large";
  dialog.innerHTML = '<figure><img alt=""><figcaption></figcaption></figure>';
  image = dialog.querySelector("img");
  caption = dialog.querySelector("figcaption");
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!way) return;
    event.preventDefault();
    show(Math.min(links.length - 1, Math.max(0, at + way)));
  });
  dialog.addEventListener("close", () => links[at]?.focus());
  document.body.append(dialog);
}

function show(place) {
  at = place;
  const link = links[at];
  image.src = link.href;
  image.alt = link.querySelector("img")?.alt ?? "";
  caption.textContent = link.dataset.caption ?? "";
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-large]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    if (!dialog) build();
    links = [...document.querySelectorAll(`a[data-large="${CSS.escape(link.dataset.large)}"]`)];
    show(links.indexOf(link));
    dialog.showModal();
    return;
  }
  const address = event.target.closest?.("[data-address]")?.dataset.address;
  if (address) history.replaceState(null, "", address);
  const place = event.target.closest?.("[data-show]")?.dataset.show;
  if (place) document.getElementById(place)?.scrollIntoView({ block: "nearest", behavior: "smooth" });
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  await navigator.clipboard?.writeText(button.dataset.copy);
  const before = button.textContent;
  button.textContent = button.dataset.copied ?? before;
  setTimeout(() => { button.textContent = before; }, 1500);
});
