// <atelier-cut>: a click on the picture, or the arrow keys, says where the middle of its cut shall be ("focus" to Python).
import { tell } from "./tell.js";

class Cut extends HTMLElement {
  connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    this.tabIndex = 0;
    this.setAttribute("role", "application");
    this.setAttribute("aria-label", this.dataset.label ?? "");
    this.addEventListener("click", (event) => {
      const frame = this.querySelector("img").getBoundingClientRect();
      this.move((event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height);
    });
    this.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(Number(this.dataset.x) + step[0] * 0.05, Number(this.dataset.y) + step[1] * 0.05);
    });
  }

  move(x, y) {
    const bound = (value) => Math.min(1, Math.max(0, value));
    [this.dataset.x, this.dataset.y] = [bound(x), bound(y)];
    tell("focus", { id: this.dataset.id, x: bound(x), y: bound(y) });
  }
}
customElements.define("atelier-cut", Cut);
