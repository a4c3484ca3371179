// <atelier-beside data-problems='[{"at": "field-lora-rank", "said": "…"}]'>: puts each sentence below its field, marks the
// field for screen readers, and leads to the first one. <atelier-go data-to="/en/runs">: goes to another page.
class Beside extends HTMLElement {
  static observedAttributes = ["data-problems"];
  connectedCallback() { this.show(); }
  attributeChangedCallback() { if (this.isConnected) this.show(); }
  disconnectedCallback() { this.clear(); }

  clear() {
    for (const old of document.querySelectorAll(".a-problem[data-beside]")) old.remove();
    for (const field of document.querySelectorAll("[data-beside-field]")) {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
      field.removeAttribute("data-beside-field");
    }
  }

  show() {
    this.clear();
    let first = null;
    for (const { at, said } of JSON.parse(this.dataset.problems || "[]")) {
      const place = document.getElementById(at);
      if (!place) continue;
      const line = document.createElement("p");
      line.className = "a-problem";
      line.id = `beside-${at}`;
      line.dataset.beside = "";
      line.setAttribute("role", "alert");
      line.textContent = said;
      place.append(line);
      const field = place.querySelector("input, textarea, select") ?? place;
      field.setAttribute("aria-invalid", "true");
      field.setAttribute("aria-describedby", line.id);
      field.setAttribute("data-beside-field", "");
      first ??= [place, field];
    }
    if (first && this.dataset.lead) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      first[0].scrollIntoView({ block: "center", behavior: calm ? "auto" : "smooth" });
      first[1].focus({ preventScroll: true });
    }
  }
}
customElements.define("atelier-beside", Beside);

class Go extends HTMLElement {
  connectedCallback() { if (this.dataset.to) location.assign(this.dataset.to); }
}
customElements.define("atelier-go", Go);
