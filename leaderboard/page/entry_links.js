// The page of an entry: links to other entries open here instead of loading the whole page again, and so do the browser's Back and Forward.
// In scope: `element` and `trigger` of the component.

element.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='?entry=']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger("select", Object.fromEntries(new URLSearchParams(link.getAttribute("href"))));
});

window.addEventListener("popstate", () => {
  const address = new URLSearchParams(window.location.search);
  if (address.has("entry")) trigger("select", { entry: address.get("entry"), attack: address.get("attack"), back: true });
  else document.getElementById("board-views")?.scrollIntoView({ block: "start" });
});
