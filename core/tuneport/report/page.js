// The page is complete without this: it filters the compared rows and opens what is folded before printing.
(() => {
  const find = document.getElementById("find");
  if (find) {
    const groups = [...document.querySelectorAll("section.group")];
    find.hidden = false;
    find.addEventListener("input", () => {
      const wanted = find.value.trim().toLowerCase();
      for (const group of groups) {
        let shown = 0;
        for (const row of group.querySelectorAll("article.row")) {
          row.hidden = !row.textContent.toLowerCase().includes(wanted);
          shown += row.hidden ? 0 : 1;
        }
        for (const rest of group.querySelectorAll("details")) rest.open = wanted !== "";
        group.hidden = shown === 0;
      }
    });
  }
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
  });
})();
