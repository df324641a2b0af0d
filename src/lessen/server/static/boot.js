// Runs before the first paint, so that the page never flashes in the wrong theme. Everything else waits for app.js.
try {
  const theme = localStorage.getItem("lessen.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's theme then stands.
}
