// Runs before Gradio's own scripts, on every page.
(() => {
  // Gradio chooses the language of its own words by the browser's; here it is the page's.
  const page = document.documentElement;
  const lang = page.lang;
  Object.defineProperty(Navigator.prototype, "language", { configurable: true, get: () => lang });
  Object.defineProperty(Navigator.prototype, "languages", { configurable: true, get: () => [lang] });

  // gr.HTML makes its template into a program with Function(), which our content security policy forbids. The only
  // templates we use are plain text and ${name}: they are read here without running anything. All else stays forbidden.
  const text = /^\s*return ("(?:[^"\\]|\\.)*");\s*$/;
  const template = /^return `((?:[^`\\$]|\$\{\w+\})*)`;$/;
  const read = (words) => {
    const names = words.slice(0, -1).map(String);
    const body = String(words.at(-1) ?? "");
    const plain = text.exec(body);
    if (plain) return () => JSON.parse(plain[1]);
    const filled = template.exec(body);
    if (!filled) return null;
    return (...values) => filled[1].replace(/\$\{(\w+)\}/g, (_, name) => String(values[names.indexOf(name)] ?? ""));
  };
  const native = window.Function;
  window.Function = new Proxy(native, {
    apply: (target, self, words) => read(words) ?? Reflect.apply(target, self, words),
    construct: (target, words) => read(words) ?? Reflect.construct(target, words),
  });

  // A request cut off because its page is being left is no error, but Gradio's client reports it as one.
  const report = console.error;
  addEventListener("beforeunload", () => { console.error = () => {}; setTimeout(() => { console.error = report; }, 3000); });

  addEventListener("DOMContentLoaded", () => {
    // Gradio names every page alike; the tab shall say which page it is.
    const title = page.dataset.title;
    // What became of a run (news.js) stands before it.
    const keep = () => {
      const wanted = page.dataset.news ? `${page.dataset.news} · ${title}` : title;
      if (title && document.title !== wanted) document.title = wanted;
    };
    new MutationObserver(keep).observe(document.head, { childList: true, subtree: true, characterData: true });
    new MutationObserver(keep).observe(page, { attributes: true, attributeFilter: ["data-news"] });
    keep();
    for (const link of document.querySelectorAll("a[data-keep-query]")) link.search = location.search;
  });
})();
