// Light or dark: the system's choice until the reader chooses, which this browser then remembers.
'use strict';
(() => {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  // Storage may be forbidden; then the page works, but forgets the choice.
  const remembered = () => { try { return localStorage.getItem('theme'); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem('theme', theme); } catch { /* forgotten */ } };

  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const announce = () => {
    document.getElementById('theme')?.setAttribute('aria-pressed', String(isDark()));
    dispatchEvent(new Event('themechange'));
  };

  if (['light', 'dark'].includes(remembered())) root.dataset.theme = remembered();
  system.addEventListener('change', announce);
  addEventListener('DOMContentLoaded', () => {
    announce();
    document.getElementById('theme').addEventListener('click', () => {
      root.dataset.theme = isDark() ? 'light' : 'dark';
      remember(root.dataset.theme);
      announce();
    });
  });
})();
