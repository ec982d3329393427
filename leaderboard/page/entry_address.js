// The address names the entry that was opened, to be sent to others. On a phone, and below a long table, the entry is out of view.

(opened) => {
  const url = new URL(window.location);
  const named = (name) => url.searchParams.get(name);
  if (opened?.back) {
    // While it was opened, Back may have been pressed again.
    if (named("entry") !== opened.entry || named("attack") !== opened.attack) return void window.dispatchEvent(new PopStateEvent("popstate"));
  } else {
    for (const name of ["entry", "attack"]) opened?.[name] ? url.searchParams.set(name, opened[name]) : url.searchParams.delete(name);
    if (url.href !== window.location.href) window.history.pushState(null, "", url);
  }
  document.getElementById("entry")?.scrollIntoView({ behavior: "smooth", block: "start" });
};
