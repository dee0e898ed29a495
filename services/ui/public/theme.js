// Before the first paint: the scheme chosen last time, if one was.
try {
  const chosen = localStorage.getItem('marketfeed.theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's scheme serves.
}
