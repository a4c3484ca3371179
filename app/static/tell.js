// From the page to Python. <button data-says="choose" data-said='{"set": "x"}'> tells when clicked; data-focus="id" leads to a field,
// data-shows=".i-pane" brings what the click opens into view where it begins outside the window.
// writes into the hidden field that app/ui/html.py `signal` made, as if typed.
export function tell(name, value) {
  const field = document.querySelector(`#signal-${name} textarea, #signal-${name} input`);
  if (!field) return false;
  field.value = typeof value === "string" ? value : JSON.stringify({ ...value, at: Date.now() });
  field.dispatchEvent(new Event("input", { bubbles: true }));
  return true;
}

addEventListener("click", (event) => {
  const target = event.target.closest?.("[data-says], [data-focus]");
  if (!target) return;
  if (target.dataset.says) tell(target.dataset.says, JSON.parse(target.dataset.said || "{}"));
  const opened = target.dataset.shows && document.querySelector(target.dataset.shows);
  if (opened) {
    const { top } = opened.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) opened.scrollIntoView({ block: "start" });
  }
  const place = target.dataset.focus && document.getElementById(target.dataset.focus);
  if (place) {
    place.scrollIntoView({ block: "center" });
    place.querySelector("input, textarea, button")?.focus({ preventScroll: true });
  }
});

// <atelier-file data-signal="toml" data-words="Open …">: hands the text of a small file over.
class TextFile extends HTMLElement {
  connectedCallback() {
    if (this.firstElementChild) return;
    const label = document.createElement("label");
    label.className = "a-small";
    const input = document.createElement("input");
    input.type = "file";
    input.accept = this.dataset.accept ?? "";
    input.className = "a-hidden";
    input.addEventListener("change", async () => {
      const [file] = input.files;
      if (file) tell(this.dataset.signal, { name: file.name, text: (await file.text()).slice(0, 200_000) });
      input.value = "";
    });
    label.append(this.dataset.words ?? "", input);
    this.append(label);
  }
}
customElements.define("atelier-file", TextFile);

// Gradio's fields say "input" on a key press alone, so nothing that is pasted, deleted, dictated or composed (Japanese!)
// would be heard. Every change of a text says it here.
const TYPED = ["text", "search", "textarea"];
document.addEventListener("input", (event) => {
  const field = event.target;
  if (!TYPED.includes(field.type) || !field.closest(".gradio-container")) return;
  field.dispatchEvent(new KeyboardEvent("keypress", { key: "Unidentified", bubbles: true }));
});
