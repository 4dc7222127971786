// Light, dark, or as the system says.

const NAMES = { auto: "as the system", light: "light", dark: "dark" };
const NEXT = { auto: "light", light: "dark", dark: "auto" };

export function startTheme(button) {
  let theme = "auto";
  try {
    theme = localStorage.getItem("muster-theme") ?? "auto";
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  const apply = () => {
    if (!(theme in NAMES)) theme = "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = theme[0].toUpperCase() + theme.slice(1);
    button.setAttribute("aria-label", `Colours: ${NAMES[theme]}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    apply();
    try {
      localStorage.setItem("muster-theme", theme);
    } catch {
      // As above.
    }
  });
  apply();
}
