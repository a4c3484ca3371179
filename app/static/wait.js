// <atelier-wait>: while one is there, the page's fields take no input: they are about to be filled, and what a person typed
// before that would be lost. After LONG milliseconds without an answer the page is free all the same.
const LONG = 20_000;

function hold(held) {
  for (const page of document.querySelectorAll(".a-page")) {
    page.inert = held;
    page.setAttribute("aria-busy", held);
  }
}

class Wait extends HTMLElement {
  connectedCallback() {
    hold(true);
    this.late = setTimeout(() => hold(false), LONG);
  }

  disconnectedCallback() {
    clearTimeout(this.late);
    if (!document.querySelector("atelier-wait")) hold(false);
  }
}
customElements.define("atelier-wait", Wait);
